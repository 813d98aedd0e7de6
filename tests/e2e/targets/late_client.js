// SPDX-License-Identifier: BSD-2-Clause
// An HTTP/2 client on node: for every line of input, a JSON list of targets, requests them one
// after another, all on one connection, and prints what it sent and saw as a JSON line.
// Usage: node late_client.js PORT
'use strict';

const http2 = require('http2');
const readline = require('readline');

const [port] = process.argv.slice(2);
const session = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });

function regular(raw) {
  const list = [];
  for (let i = 0; i < raw.length; i += 2) if (raw[i][0] !== ':') list.push([raw[i], raw[i + 1]]);
  return list;
}

function exchange(target) {
  return new Promise((resolve, reject) => {
    const headers = {
      'user-agent': 'late/1.0', 'x-constant': 'always the same', 'x-target': target,
    };
    const stream = session.request({ ':path': target, ...headers });
    let size = 0;
    let response;
    stream.on('error', reject);
    stream.on('response', (seen, flags, raw) => {
      response = { status: seen[':status'], response_headers: regular(raw) };
    });
    stream.on('data', (chunk) => { size += chunk.length; });
    stream.on('end', () => resolve({
      method: 'GET', target, version: '2', request_headers: Object.entries(headers),
      response_size: size, pid: process.pid, ...response,
    }));
    stream.end();
  });
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const seen = [];
    for (const target of JSON.parse(line)) seen.push(await exchange(target));
    console.log(JSON.stringify(seen));
  }
  session.close();
}

session.on('connect', () => { console.log('ready'); main(); });
