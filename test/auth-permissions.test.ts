import assert from 'node:assert/strict'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { test } from 'node:test'
import { loadNative } from '../src/device/native.ts'
import { runtime } from '../src/runtime.ts'
import { certificatePem } from '../src/x509/issue.ts'
import { certify } from './helpers/certificates.ts'
import { crlOf, issueClient } from './helpers/client-pki.ts'
import { lacks } from './helpers/counterpart.ts'
import { freshFolder, runCvmd, startDaemon, unixRequest } from './helpers/daemon.ts'
import { RawClient } from './helpers/raw-http.ts'

const INSTALLED = resolve('node_modules/.bin/deno')
const deno = runtime === 'deno' ? process.execPath : existsSync(INSTALLED) ? INSTALLED : undefined

const CONFIG = `[[listen]]
address = "127.0.0.1:0"
auth = "certificate"

[listen.tls]
cert = "{folder}/tls/cert.pem"
key = "{folder}/tls/key.pem"
create_if_missing = true
client_ca = "{folder}/ca.pem"
client_crl = "{folder}/crl.pem"

[[listen]]
unix = "{folder}/run/cvmd.sock"
auth = "peer"

[[auth.certificates]]
name = "ada"
common_name = "client"
scopes = ["cvmd:*"]

[[auth.peers]]
name = "me"
uid = ${process.getuid?.() ?? 0}
scopes = ["cvmd:*"]
`

test('under Deno the printed flags suffice to tell certificates and peers', async (t) => {
  if (lacks(t, 'deno', deno !== undefined)) return
  if (lacks(t, 'native-addon', 'readPeer' in loadNative())) return
  const folder = freshFolder()
  mkdirSync(join(folder, 'tls'))
  const authority = certify()
  writeFileSync(join(folder, 'ca.pem'), certificatePem(authority.der))
  writeFileSync(join(folder, 'crl.pem'), crlOf(authority, []))
  const file = join(folder, 'cvmd.toml')
  writeFileSync(file, CONFIG.replaceAll('{folder}', folder))
  const env = { CVMD_STATE_DIR: join(folder, 'state'), CVMD_RUN_DIR: join(folder, 'run') }
  const { stdout } = await runCvmd(['permissions', '--deno', '--config', file], env)
  assert.match(stdout, /--allow-ffi=\S+device\.node( |$)/m)
  const command = [deno as string, 'run', '--no-prompt', '--quiet', ...stdout.trim().split(' ')]
  const daemon = await startDaemon({
    folder,
    config: CONFIG,
    command: [...command, resolve('src/main.ts')],
  })
  try {
    const { cert, key } = issueClient(authority)
    const port = daemon.ports[0] as number
    const client = await RawClient.connect({ port, tls: { cert, key, rejectUnauthorized: false } })
    client.send('GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n')
    assert.equal((await client.answer(5000))?.status, 200)
    client.destroy()
    const reload = await unixRequest(daemon.socket, '/cvmd/reload', { method: 'POST' })
    assert.equal(reload.status, 200, reload.body)
  } finally {
    assert.equal(await daemon.stop(), 0, daemon.output())
    rmSync(folder, { recursive: true, force: true })
  }
})
