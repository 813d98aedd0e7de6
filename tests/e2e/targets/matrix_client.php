<?php
// SPDX-License-Identifier: BSD-2-Clause
// HTTPS clients of PHP. Usage: php matrix_client.php stream|curl PORT TARGETS, where TARGETS is a
// JSON file: a list of lanes, each a list of targets that are requested one after another.

[, $kind, $port, $path] = $argv;
$lanes = json_decode(file_get_contents($path));

function open_stream($port)
{
    $options = ['ssl' => ['verify_peer' => false, 'verify_peer_name' => false]];
    $stream = stream_socket_client("ssl://127.0.0.1:$port", $code, $message, 20,
                                   STREAM_CLIENT_CONNECT, stream_context_create($options));
    return $stream ?: exit("no connection: $message\n");
}

// Returns whether the connection stays.
function read_response($stream)
{
    $length = 0;
    $stays = true;
    while (($line = rtrim(fgets($stream))) !== '') {
        if (stripos($line, 'content-length:') === 0) $length = (int)substr($line, 15);
        if (strcasecmp($line, 'connection: close') === 0) $stays = false;
    }
    $left = $length;
    while ($left > 0) $left -= strlen(fread($stream, $left)) ?: exit("the body ends\n");
    return $stays;
}

function with_streams($port, $lanes)
{
    $streams = [];
    for ($round = 0; $round < count($lanes[0]); $round++) {
        foreach ($lanes as $lane => $targets) {
            $streams[$lane] ??= open_stream($port);
            fwrite($streams[$lane], "GET $targets[$round] HTTP/1.1\r\nHost: localhost\r\n\r\n");
        }
        foreach (array_keys($lanes) as $lane) {
            if (!read_response($streams[$lane])) {
                fclose($streams[$lane]);
                unset($streams[$lane]);
            }
        }
    }
}

function with_curl($port, $lanes)
{
    $multi = curl_multi_init();
    $add = function ($lane) use ($multi, $port, &$lanes) {
        $handle = curl_init("https://127.0.0.1:$port" . array_shift($lanes[$lane]));
        curl_setopt_array($handle, [
            CURLOPT_SSL_VERIFYPEER => false, CURLOPT_SSL_VERIFYHOST => 0,
            CURLOPT_RETURNTRANSFER => true, CURLOPT_HTTP_VERSION => CURL_HTTP_VERSION_1_1,
            CURLOPT_PRIVATE => (string)$lane,
        ]);
        curl_multi_add_handle($multi, $handle);
    };
    foreach (array_keys($lanes) as $lane) $add($lane);
    do {
        curl_multi_exec($multi, $running);
        while ($done = curl_multi_info_read($multi)) {
            $done['result'] === CURLE_OK || exit(curl_strerror($done['result']) . "\n");
            $lane = (int)curl_getinfo($done['handle'], CURLINFO_PRIVATE);
            curl_multi_remove_handle($multi, $done['handle']);
            if ($lanes[$lane]) {
                $add($lane);
                $running = 1;
            }
        }
        if ($running) curl_multi_select($multi, 1);
    } while ($running);
}

$kind === 'curl' ? with_curl($port, $lanes) : with_streams($port, $lanes);
echo "done\n";
