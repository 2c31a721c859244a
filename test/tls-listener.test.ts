import assert from 'node:assert/strict'
import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { join } from 'node:path'
import { test } from 'node:test'
import { connect } from 'node:tls'
import { createSelfSigned } from '../src/tls/self-signed.ts'
import { startDaemon, unixRequest } from './helpers/daemon.ts'

const CONFIG = `[[listen]]
address = "127.0.0.1:0"
tls = { cert = "{folder}/cert.pem", key = "{folder}/key.pem", create_if_missing = true, hosts = ["node.example", "127.0.0.1"] }
[[listen]]
unix = "{folder}/run/cvmd.sock"
`

function get(port: number, path: string, ca: string): Promise<{ status: number; body: string }> {
  return new Promise((done, failed) => {
    const options = { host: '127.0.0.1', port, path, ca, servername: 'node.example', agent: false }
    request(options, (incoming) => {
      let body = ''
      incoming.on('data', (data) => {
        body += data
      })
      incoming.on('end', () => done({ status: incoming.statusCode ?? 0, body }))
    })
      .once('error', failed)
      .end()
  })
}

function fingerprint(port: number): Promise<string> {
  return new Promise((done, failed) => {
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false }, () => {
      done(socket.getPeerCertificate().fingerprint256)
      socket.destroy()
    })
    socket.once('error', failed)
  })
}

test('a made certificate serves, and another one is taken over while running', async () => {
  const daemon = await startDaemon({ config: CONFIG })
  try {
    const port = daemon.ports[0] as number
    const cert = join(daemon.folder, 'cert.pem')
    const key = join(daemon.folder, 'key.pem')
    assert.equal(statSync(key).mode & 0o777, 0o600)
    const answer = await get(port, '/livez', readFileSync(cert, 'utf8'))
    assert.deepEqual(answer, { status: 200, body: '{"status":"ok"}\n' })
    const before = await fingerprint(port)

    // An ACME client replaces two files one after the other; in between they do not fit.
    const next = createSelfSigned(['node.example'], Date.now())
    writeFileSync(`${cert}.new`, next.cert)
    renameSync(`${cert}.new`, cert)
    assert.equal((await unixRequest(daemon.socket, '/cvmd/reload', { method: 'POST' })).status, 200)
    assert.equal(await fingerprint(port), before, 'a pair that does not fit changes nothing')
    writeFileSync(key, next.key, { mode: 0o600 })
    await unixRequest(daemon.socket, '/cvmd/reload', { method: 'POST' })
    assert.notEqual(await fingerprint(port), before)
    assert.equal((await get(port, '/livez', next.cert)).status, 200)

    // Without a reload, too: the files are looked at every few seconds.
    const last = createSelfSigned(['node.example'], Date.now())
    writeFileSync(cert, last.cert)
    writeFileSync(key, last.key)
    let seen = false
    for (let i = 0; i < 100 && !seen; i++) {
      await new Promise((tick) => setTimeout(tick, 100))
      seen = await get(port, '/livez', last.cert).then(
        () => true,
        () => false,
      )
    }
    assert.ok(seen, daemon.output())
    const events = await unixRequest(daemon.socket, '/cvmd/events?source=cvmd')
    assert.match(events.body, /certificate of 127\.0\.0\.1:0 was reloaded/)
  } finally {
    assert.equal(await daemon.stop(), 0)
  }
})

test('a connection serves one request after another', async () => {
  const daemon = await startDaemon({ config: CONFIG })
  try {
    const port = daemon.ports[0] as number
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false })
    let received = ''
    socket.on('data', (data: Buffer) => {
      received += data
    })
    const closed = new Promise((done) => socket.once('close', done))
    for (let answers = 1; answers <= 3; answers++) {
      const last = answers === 3 ? 'Connection: close\r\n' : ''
      socket.write(`GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n${last}\r\n`)
      while (received.split('{"status":"ok"}').length <= answers && !socket.destroyed) {
        await new Promise((tick) => setTimeout(tick, 5))
      }
    }
    await closed
    assert.equal(received.split('HTTP/1.1 200').length - 1, 3)
  } finally {
    await daemon.stop()
  }
})
