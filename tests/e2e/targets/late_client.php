<?php
// SPDX-License-Identifier: BSD-2-Clause
// An HTTP/2 client on libcurl: for every line of input, a JSON list of targets, requests them one
// after another, all on one connection, and prints what it sent and saw as a JSON line.
// Usage: php late_client.php PORT

[, $port] = $argv;
$handle = curl_init();
echo "ready\n";
while (($line = fgets(STDIN)) !== false) {
    $seen = [];
    foreach (json_decode($line) as $target) {
        $request = [['user-agent', 'late/1.0'], ['accept', '*/*'],
                    ['x-constant', 'always the same'], ['x-target', $target]];
        $response = [];
        curl_setopt_array($handle, [
            CURLOPT_URL => "https://127.0.0.1:$port$target",
            CURLOPT_HTTP_VERSION => CURL_HTTP_VERSION_2TLS,
            CURLOPT_SSL_VERIFYPEER => false,
            CURLOPT_SSL_VERIFYHOST => 0,
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_USERAGENT => 'late/1.0',
            CURLOPT_HTTPHEADER => ['x-constant: always the same', "x-target: $target"],
            CURLOPT_HEADERFUNCTION => function ($_, $header) use (&$response) {
                $pair = explode(': ', rtrim($header), 2);
                if (count($pair) == 2) $response[] = $pair;
                return strlen($header);
            },
        ]);
        $body = curl_exec($handle);
        if ($body === false) exit(curl_error($handle) . "\n");
        $seen[] = [
            'method' => 'GET', 'target' => $target, 'version' => '2',
            'request_headers' => $request, 'response_headers' => $response,
            'response_size' => strlen($body), 'pid' => getmypid(),
            'status' => curl_getinfo($handle, CURLINFO_RESPONSE_CODE),
        ];
    }
    echo json_encode($seen, JSON_UNESCAPED_SLASHES), "\n";
}
