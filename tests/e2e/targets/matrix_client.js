// SPDX-License-Identifier: BSD-2-Clause
// HTTPS clients of node. Usage: node matrix_client.js https|fetch PORT TARGETS, where TARGETS is a
// JSON file: a list of lanes, each a list of targets that are requested one after another.
'use strict';

const fs = require('fs');
const https = require('https');

const [kind, port, path] = process.argv.slice(2);
const lanes = JSON.parse(fs.readFileSync(path, 'utf8'));
// Certificates are not checked: NODE_TLS_REJECT_UNAUTHORIZED, which fetch obeys too.
const agent = new https.Agent({ keepAlive: true, maxSockets: lanes.length });

function getHttps(target) {
  return new Promise((resolve, reject) => {
    https.get({ host: '127.0.0.1', port, path: target, agent }, (response) => {
      response.resume();
      response.on('end', resolve);
    }).on('error', reject);
  });
}

async function getFetch(target) {
  const response = await fetch(`https://127.0.0.1:${port}${target}`);
  await response.arrayBuffer();
}

async function lane(targets) {
  for (const target of targets) await (kind === 'https' ? getHttps : getFetch)(target);
}

Promise.all(lanes.map(lane)).then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
