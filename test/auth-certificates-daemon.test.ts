import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { join } from 'node:path'
import { test } from 'node:test'
import { certificatePem } from '../src/x509/issue.ts'
import { certify } from './helpers/certificates.ts'
import { crlOf, issueClient, type TestClient } from './helpers/client-pki.ts'
import {
  type DaemonProcess,
  freshFolder,
  runCvmd,
  startDaemon,
  unixRequest,
} from './helpers/daemon.ts'

const authority = certify({ name: 'authority' })
const pem = certificatePem(authority.der)

const CONFIG = `[[listen]]
address = "127.0.0.1:0"
auth = ["certificate"]

[listen.tls]
cert = "{folder}/cert.pem"
key = "{folder}/key.pem"
create_if_missing = true
client_ca = "{folder}/ca.pem"
client_crl = "{folder}/crl.pem"

[[listen]]
unix = "{folder}/run/cvmd.sock"

[[auth.certificates]]
name = "ada"
common_name = "client"
scopes = ["cvmd:read"]
`

function ask(
  { ports }: DaemonProcess,
  { cert, key }: TestClient,
  path = '/livez',
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const to = { host: '127.0.0.1', port: ports[0], path, rejectUnauthorized: false, agent: false }
    request({ ...to, cert, key }, (incoming) => {
      let body = ''
      incoming.on('data', (data) => {
        body += data
      })
      incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, body }))
    })
      .once('error', reject)
      .end()
  })
}

test('a list that is replaced counts at once, a bad one is reported and changes nothing', async () => {
  const folder = freshFolder()
  const [ca, crl] = [join(folder, 'ca.pem'), join(folder, 'crl.pem')]
  const [client, other] = [issueClient(authority), issueClient(authority)]
  writeFileSync(ca, pem)
  writeFileSync(crl, crlOf(authority, []))
  const daemon = await startDaemon({ config: CONFIG, folder })
  const reload = () => unixRequest(daemon.socket, '/cvmd/reload', { method: 'POST' })
  const untilStatus = async (wanted: number) => {
    for (let i = 0; i < 100; i++) {
      if ((await ask(daemon, client)).status === wanted) return
      await new Promise((tick) => setTimeout(tick, 100))
    }
    assert.fail(`no ${wanted}\n${daemon.output()}`)
  }
  try {
    assert.equal((await ask(daemon, client)).status, 200)
    assert.match((await ask(daemon, client, '/cvmd/reload')).body, /Cannot GET/)

    writeFileSync(crl, 'nothing')
    const refused = await reload()
    assert.equal(refused.status, 422)
    assert.match(refused.body, /listen\.0\.tls\.client_crl: Cannot use revocation lists/)
    assert.equal((await ask(daemon, client)).status, 200)

    // Without a reload: the files are looked at every few seconds.
    writeFileSync(crl, crlOf(authority, [client]))
    await untilStatus(401)
    assert.equal((await ask(daemon, other)).status, 200)

    writeFileSync(crl, crlOf(authority, []))
    assert.equal((await reload()).status, 200)
    assert.equal((await ask(daemon, client)).status, 200)

    const scope = CONFIG.replace('"cvmd:read"', '"events:read"').replaceAll('{folder}', folder)
    writeFileSync(join(folder, 'cvmd.toml'), scope)
    assert.equal((await reload()).status, 200)
    assert.equal((await ask(daemon, client)).status, 403)
    const { body } = await unixRequest(daemon.socket, '/cvmd/events?source=cvmd')
    assert.match(
      body,
      /refused GET \/livez from 127\.0\.0\.1: The client certificate .{2,4}client.{2,4} is revoked/,
    )
    assert.match(body, /Caller .{2,4}ada.{2,4} lacks the scope/)
    assert.match(body, /certificate of 127\.0\.0\.1:0 was reloaded/)
  } finally {
    assert.equal(await daemon.stop(), 0)
    rmSync(folder, { recursive: true, force: true })
  }
})

test('cvmd check says what is wrong and where, and a daemon does not start with it', async (t) => {
  const folder = freshFolder()
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const at = (name: string) => join(folder, name)
  writeFileSync(at('ca.pem'), pem)
  writeFileSync(at('crl.pem'), crlOf(authority, []))
  writeFileSync(at('leaf.pem'), issueClient(authority).cert)
  const check = async (from: string | RegExp, to: string, command = 'check') => {
    const config = CONFIG.replaceAll('{folder}', folder).replace(from, to)
    writeFileSync(at('cvmd.toml'), config)
    const env = { CVMD_STATE_DIR: at('state'), CVMD_RUN_DIR: at('run') }
    const args = command === '' ? [] : [command]
    const { status, stdout, stderr } = await runCvmd([...args, '--config', at('cvmd.toml')], env)
    return `${status} ${stdout}${stderr}`.replaceAll(folder, '')
  }
  assert.match(await check('', ''), /^0 /)
  const wrong: [from: string | RegExp, to: string, found: RegExp][] = [
    ['ca.pem', 'gone.pem', /^78 [\s\S]*toml:9:1: listen\.0\.tls\.client_ca: Cannot use .*ENOENT/],
    ['ca.pem', 'leaf.pem', /:9:1: .*"client" is no certificate of an authority/],
    ['ca.pem', 'crl.pem', /:9:1: .*there is no CERTIFICATE block/],
    ['crl.pem', 'ca.pem', /:10:1: listen\.0\.tls\.client_crl: .*there is no X509 CRL block/],
    [/client_ca.*\n/, '', /:3:1: listen\.0\.auth: "certificate" needs tls\.client_ca/],
    [/client_ca.*\n/, '', /:9:1: listen\.0\.tls\.client_crl: needs client_ca/],
    ['["certificate"]', '"key"', /:9:1: .*client_ca: has no effect without auth = "certificate"/],
    [
      /\[\[auth[\s\S]*/,
      '',
      /:3:1: listen\.0\.auth: "certificate" needs \[\[auth\.certificates\]\]/,
    ],
    ['common_name = "client"', '', /:15:1: auth\.certificates\.0: give one of sha256, key_sha256/],
    ['common_name', 'sha256', /:17:1: auth\.certificates\.0\.sha256: expected the 64 hex digits/],
    ['["cvmd:read"]', '[]', /:18:1: auth\.certificates\.0\.scopes: /],
  ]
  for (const [from, to, found] of wrong) assert.match(await check(from, to), found)
  assert.match(await check('ca.pem', 'gone.pem', ''), /^78 [\s\S]*client_ca: Cannot use/)
})
