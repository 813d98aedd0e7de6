// SPDX-License-Identifier: BSD-2-Clause
// An HTTP/2 server on node: /size/N answers with N bytes, /grpc/SERVICE/METHOD as gRPC does, with
// two messages and a status of 5; /events/N/MS sends N server-sent events, MS milliseconds apart; a
// CONNECT gets back what it sends (RFC 8441); anything else the request's body. Prints one JSON line a
// request, but for the last two. Usage: node node_h2_server.js CERTIFICATE KEY PORT
'use strict';

const fs = require('fs');
const http2 = require('http2');

const [certificate, key, port] = process.argv.slice(2);

function regular(raw) {
  const list = [];
  for (let i = 0; i < raw.length; i += 2) if (raw[i][0] !== ':') list.push([raw[i], raw[i + 1]]);
  return list;
}

const server = http2.createSecureServer({
  cert: fs.readFileSync(certificate), key: fs.readFileSync(key),
  settings: { enableConnectProtocol: true },
});

function sendEvents(stream, count, milliseconds) {
  stream.respond({ ':status': 200, 'content-type': 'text/event-stream' });
  let sent = 0;
  const timer = setInterval(() => {
    if (stream.destroyed || sent === count) {
      clearInterval(timer);
      stream.end();
      return;
    }
    stream.write('data: 1\n\n');
    sent += 1;
  }, milliseconds);
}

server.on('stream', (stream, headers, flags, raw) => {
  const chunks = [];
  const events = /^\/events\/(\d+)\/(\d+)/.exec(headers[':path']);
  stream.on('error', () => {});
  if (events) {
    sendEvents(stream, Number(events[1]), Number(events[2]));
    return;
  }
  if (headers[':method'] === 'CONNECT') {
    stream.respond({ ':status': 200 });
    stream.pipe(stream);
    return;
  }
  const grpc = (headers['content-type'] || '').startsWith('application/grpc');
  const { localAddress, localPort, remoteAddress, remotePort } = stream.session.socket;
  stream.on('data', (chunk) => chunks.push(chunk));
  stream.on('end', () => {
    const received = Buffer.concat(chunks);
    const size = /^\/size\/(\d+)/.exec(headers[':path']);
    let body = size ? Buffer.alloc(Number(size[1]), 'n') : received;
    const answer = { ':status': 200, 'x-answer': `to ${headers[':path']}` };
    if (grpc) {
      body = Buffer.from([0, 0, 0, 0, 2, 97, 98, 0, 0, 0, 0, 0]);
      answer['content-type'] = 'application/grpc';
      stream.on('wantTrailers', () => stream.sendTrailers(
        { 'grpc-status': '5', 'grpc-message': 'not%20there' }));
    }
    stream.respond(answer, { waitForTrailers: grpc });
    stream.end(body);
    stream.on('close', () => console.log(JSON.stringify({
      method: headers[':method'], target: headers[':path'], status: 200, version: '2',
      request_headers: regular(raw), response_headers: null, request_size: received.length,
      response_size: body.length, local: [localAddress, localPort],
      peer: [remoteAddress, remotePort], pid: process.pid,
    })));
  });
});

server.listen(Number(port), '127.0.0.1', () => console.log('listening'));
