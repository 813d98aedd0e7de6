// SPDX-License-Identifier: BSD-2-Clause
// An HTTPS server on node: answers /size/N with N bytes, /chunked/N with N bytes in chunks of 64 KB,
// and anything else with the request's body; prints one JSON line a request. Usage: node node_server.js CERTIFICATE KEY PORT
'use strict';

const fs = require('fs');
const https = require('https');

const [certificate, key, port] = process.argv.slice(2);

const BLOCK = Buffer.alloc(65536, 'c');

function pairs(raw) {
  const list = [];
  for (let i = 0; i < raw.length; i += 2) list.push([raw[i], raw[i + 1]]);
  return list;
}

// Writes as fast as the client reads.
function writeChunks(response, size) {
  let left = size;
  const next = () => {
    let room = true;
    while (left > 0 && room) {
      const block = BLOCK.subarray(0, Math.min(left, BLOCK.length));
      left -= block.length;
      room = response.write(block);
    }
    if (left > 0) response.once('drain', next);
    else response.end();
  };
  next();
}

function sizeOf(request, chunked, body) {
  if (request.method === 'HEAD') return 0;
  return chunked ? Number(chunked[1]) : body.length;
}

function serve(request, response) {
  const chunks = [];
  const { localAddress, localPort, remoteAddress, remotePort } = request.socket;
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const received = Buffer.concat(chunks);
    const chunked = /^\/chunked\/(\d+)/.exec(request.url);
    const size = /^\/size\/(\d+)/.exec(request.url);
    const body = size ? Buffer.alloc(Number(size[1]), 'n') : received;
    if (chunked) {
      writeChunks(response, Number(chunked[1]));
    } else {
      response.setHeader('Content-Length', body.length);
      response.end(request.method === 'HEAD' ? undefined : body);
    }
    response.on('finish', () => console.log(JSON.stringify({
      method: request.method, target: request.url, status: response.statusCode, version: '1.1',
      request_headers: pairs(request.rawHeaders), response_headers: null,
      request_size: received.length, response_size: sizeOf(request, chunked, body),
      local: [localAddress, localPort], peer: [remoteAddress, remotePort], pid: process.pid,
    })));
  });
}

// Connections that rest while a loaded machine attaches must stay.
const keepAliveTimeout = 60000;
https.createServer(
  { keepAliveTimeout, cert: fs.readFileSync(certificate), key: fs.readFileSync(key) }, serve,
).listen(Number(port), '127.0.0.1', () => console.log('listening'));
