// SPDX-License-Identifier: BSD-2-Clause
// An HTTPS server on node: answers /size/N with N bytes and anything else with the request's body;
// prints one JSON line a request. Usage: node node_server.js CERTIFICATE KEY PORT
'use strict';

const fs = require('fs');
const https = require('https');

const [certificate, key, port] = process.argv.slice(2);

function pairs(raw) {
  const list = [];
  for (let i = 0; i < raw.length; i += 2) list.push([raw[i], raw[i + 1]]);
  return list;
}

function serve(request, response) {
  const chunks = [];
  const { localAddress, localPort, remoteAddress, remotePort } = request.socket;
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const received = Buffer.concat(chunks);
    const size = /^\/size\/(\d+)/.exec(request.url);
    const body = size ? Buffer.alloc(Number(size[1]), 'n') : received;
    response.setHeader('Content-Length', body.length);
    response.end(request.method === 'HEAD' ? undefined : body);
    response.on('finish', () => console.log(JSON.stringify({
      method: request.method, target: request.url, status: response.statusCode, version: '1.1',
      request_headers: pairs(request.rawHeaders), response_headers: null,
      request_size: received.length, response_size: request.method === 'HEAD' ? 0 : body.length,
      local: [localAddress, localPort], peer: [remoteAddress, remotePort], pid: process.pid,
    })));
  });
}

https.createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key) }, serve)
  .listen(Number(port), '127.0.0.1', () => console.log('listening'));
