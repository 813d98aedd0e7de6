// SPDX-License-Identifier: BSD-2-Clause
// An HTTPS client on node: for every line of input, a JSON object {"method", "target", "size"},
// makes the request on one keep-alive connection and prints what it saw as a JSON line.
// Usage: node node_client.js HOST PORT
'use strict';

const https = require('https');
const readline = require('readline');

const [host, port] = process.argv.slice(2);
const agent = new https.Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false });

function pairs(raw) {
  const list = [];
  for (let i = 0; i < raw.length; i += 2) list.push([raw[i], raw[i + 1]]);
  return list;
}

function exchange({ method = 'GET', target, size = null }) {
  return new Promise((resolve, reject) => {
    const body = size === null ? undefined : Buffer.alloc(size, 'b');
    const headers = body ? { 'Content-Length': body.length } : {};
    const request = https.request({ host, port, path: target, method, agent, headers });
    request.on('error', reject);
    request.on('response', (response) => {
      const { localAddress, localPort, remoteAddress, remotePort } = response.socket;
      let received = 0;
      response.on('data', (chunk) => { received += chunk.length; });
      response.on('end', () => resolve({
        method, target, status: response.statusCode, version: '1.1', request_headers: null,
        response_headers: pairs(response.rawHeaders), request_size: size || 0,
        response_size: received, local: [localAddress, localPort],
        peer: [remoteAddress, remotePort], pid: process.pid,
      }));
    });
    request.end(body);
  });
}

async function main() {
  console.log('ready');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await exchange(JSON.parse(line))));
  }
  agent.destroy();
}

main();
