/** A KMS and an application that were used in every way: where keys are afterwards, and where not. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { keyV0, keyV1 } from '../plugins/kms/derivation/app-keys.ts'
import { appCaScalar, appRootKey, diskKey, envKey } from '../plugins/kms/derivation/kms-keys.ts'
import { clearRoots, openRoots } from '../plugins/kms/server/roots.ts'
import { unixRequest } from './helpers/daemon.ts'
import { answerOf } from './helpers/kms-answers.ts'
import { type AppDaemon, type KmsDaemon, kmsSite } from './helpers/kms-daemon.ts'
import { Heard } from './helpers/secret-traces.ts'

const SHOP = '{"name":"shop"}'
const NAMES = ['wallet', '', 'vms']

const site = await kmsSite()
after(() => site.close())

/** What the application is given, once: keys are nowhere else afterwards. */
const ANSWERED = [
  '/GetKey?path=wallet',
  '/v0/GetKey?path=',
  '/v1/GetKey?domain=wallet&algorithm=ed25519',
  '/prpc/Tappd.DeriveK256Key?path=wallet',
  '/prpc/DeriveKey?path=wallet',
  '/GetTlsKey?subject=a.example&usage_ra_tls=true',
  '/v1/IssueCert?subject=a.example',
  '/Sign?algorithm=ed25519&data=00',
  '/Sign?algorithm=secp256k1&data=00',
]

const REFUSED = [
  '/GetKey?path=wallet&algorithm=rsa',
  '/v1/GetKey?domain=wallet&algorithm=',
  '/GetTlsKey?not_before=2&not_after=1',
  '/GetTlsKey?alt_names[0]=%00',
  '/Sign?algorithm=secp256k1_prehashed&data=00',
  '/Sign?algorithm=none&data=00',
  '/Verify?algorithm=ed25519&data=00&signature=00&public_key=00',
  '/prpc/Tappd.DeriveKey?path=wallet&subject=%00&alt_names[0]=%ff',
]

/** Everything that a daemon tells, has written, or says of itself. */
async function toldBy(machine: KmsDaemon | AppDaemon, heard: Heard): Promise<void> {
  heard.text(machine.output())
  for (const path of ['plugins', 'ready', 'metrics', 'events?limit=1000', 'kms', 'openapi.json']) {
    const { body } = await unixRequest(machine.socket, `/cvmd/${path}`)
    heard.text(body)
  }
  heard.text((await unixRequest(machine.socket, '/logs')).body)
  const proc = `/proc/${machine.child.pid}`
  for (const name of ['cmdline', 'environ']) heard.text(readFileSync(`${proc}/${name}`, 'latin1'))
}

function filesIn(folder: string, heard: Heard, skip = ''): number {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile() && !(skip !== '' && path.startsWith(skip)))
  for (const path of names) heard.stream()(readFileSync(path))
  return names.length
}

test('keys are in the files of root keys, in answers, and nowhere else', async () => {
  site.policy.allowApp(SHOP)
  const kms = await site.kms({ name: 'kms' })
  site.policy.allowKms((await kms.setUp('GetAttestationInfo'))?.json ?? {})
  await kms.bootstrap()
  const second = await site.kms({ name: 'second' })
  await second.join(await kms.url())
  const change = async (of: KmsDaemon, what: string, body: object) => {
    const init = { method: 'POST', body: JSON.stringify(body) }
    const answer = await unixRequest(of.socket, `/cvmd/kms/${what}`, init)
    return answerOf(answer.status, answer.body)
  }
  assert.equal((await change(kms, 'rotate', { prepare: true })).status, 200)
  assert.equal((await change(second, 'sync', { source_url: await kms.url() })).status, 200)
  assert.equal((await change(kms, 'use', { version: 9 })).status, 404)
  assert.equal((await change(kms, 'sync', { source_url: 'https://127.0.0.1:1' })).status, 502)
  const [root] = (await kms.status()).versions
  const app = await site.app({
    name: 'shop',
    compose: SHOP,
    urls: [await kms.url()],
    roots: [root?.ca_cert ?? ''],
    provider: root?.ca_public_key ?? '',
  })
  await app.key()
  const answered = new Heard()
  for (const path of ANSWERED) {
    const { status, body } = await app.ask(path)
    assert.equal(status, 200, `${path} ${body}`)
    answered.text(body)
  }
  const heard = new Heard()
  for (const path of REFUSED) {
    const { status, body } = await app.ask(path)
    assert.ok(status >= 400, `${path} ${body}`)
    heard.text(body)
  }

  // Who may have keys may change: what is told of that is looked at, too.
  const { json } = await app.ask('/Info')
  const appId = Buffer.from(json.app_id ?? '', 'hex')
  const secrets: Record<string, Uint8Array> = {}
  const roots = await openRoots(kms.keys)
  assert.ok(roots)
  for (const version of roots.versions) {
    const keys = roots.of(version)
    assert.ok(keys)
    const own = appRootKey(keys, appId)
    Object.assign(secrets, {
      [`${version} root CA`]: Uint8Array.from(keys.ca),
      [`${version} root k256`]: Uint8Array.from(keys.k256),
      [`${version} app CA`]: appCaScalar(keys, appId),
      [`${version} disk`]: diskKey(keys, appId, new Uint8Array()),
      [`${version} env`]: envKey(keys, appId),
      [`${version} app root`]: own,
      ...Object.fromEntries(NAMES.map((name) => [`${version} key "${name}"`, keyV0(own, name)])),
      [`${version} v1`]: keyV1(own, 'wallet', 'ed25519'),
    })
  }
  clearRoots(roots)

  for (const machine of [kms, second, app]) {
    await toldBy(machine, heard)
    assert.ok(filesIn(machine.folder, heard, 'keys' in machine ? machine.keys : '') > 3)
  }
  assert.ok(heard.bytes > 50_000)
  assert.deepEqual(heard.traces(secrets), [])

  // The search sees them where they are.
  const kept = new Heard()
  assert.ok(filesIn(second.keys, kept) >= 7)
  const found = kept.traces(secrets)
  assert.deepEqual(found, [
    '0 root CA base64',
    '0 root k256 raw',
    '1 root CA base64',
    '1 root k256 hex',
  ])
  assert.deepEqual(answered.traces(secrets), [
    '0 key "" hex',
    '0 key "wallet" base64',
    '0 key "wallet" hex',
    '0 v1 hex',
  ])
})
