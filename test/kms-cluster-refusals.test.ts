/** Who gets no keys of a KMS, and whose keys nobody takes: real processes, and somebody in between. */
import assert from 'node:assert/strict'
import { createPrivateKey } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { readAuthority } from '../plugins/kms/certificates/authority.ts'
import { issueLeaf } from '../plugins/kms/certificates/leaf.ts'
import { p256Key } from '../plugins/kms/certificates/p256-key.ts'
import { randomP256Scalar } from '../plugins/kms/derivation/curves.ts'
import { appRootKey } from '../plugins/kms/derivation/kms-keys.ts'
import { openRoots } from '../plugins/kms/server/roots.ts'
import { RA_TLS_OID } from '../src/attest/ra-tls.ts'
import { createSelfSigned, type PemPair } from '../src/tls/self-signed.ts'
import { parseCertificate } from '../src/x509/certificate.ts'
import { octetString } from '../src/x509/der-write.ts'
import { extension } from '../src/x509/issue.ts'
import { unixRequest } from './helpers/daemon.ts'
import { type Answer, askUnverified, shownCertificate } from './helpers/kms-answers.ts'
import {
  type AppDaemon,
  type AppMachine,
  eventually,
  type KmsDaemon,
  type KmsSite,
  kmsSite,
  type Shown,
} from './helpers/kms-daemon.ts'
import { appIdOf } from './helpers/kms-policy-file.ts'
import { type Middle, middle } from './helpers/tls-proxy.ts'

const SHOP = '{"name":"shop"}'
const ROGUE = '{"name":"rogue"}'

let site: KmsSite
/** Machines of somebody else. */
let elsewhere: KmsSite
let kms: KmsDaemon
/** Without keys, and allowed to be a KMS. */
let joiner: KmsDaemon
let url: string
let root: Shown['versions'][0]
const proxies: Middle[] = []

before(async () => {
  ;[site, elsewhere] = await Promise.all([kmsSite(), kmsSite()])
  ;[kms, joiner] = await Promise.all([site.kms({ name: 'kms' }), site.kms({ name: 'joiner' })])
  const info = await kms.setUp('GetAttestationInfo')
  site.policy.allowKms(info?.json ?? {})
  elsewhere.policy.allowKms(info?.json ?? {})
  site.policy.allowApp(SHOP)
  await kms.bootstrap()
  url = await kms.url()
  const [version] = (await kms.status()).versions
  assert.ok(version)
  root = version
})
after(async () => {
  for (const proxy of proxies) proxy.close()
  await Promise.all([site?.close(), elsewhere?.close()])
})

/** An application's machine that is never given keys. */
function shop(more: Partial<AppMachine> = {}, at = site): Promise<AppDaemon> {
  const from = { urls: [url], roots: [root.ca_cert], provider: root.ca_public_key }
  return at.app({ name: 'shop', compose: SHOP, ...from, ...more })
}

const why = async (app: AppDaemon, text: RegExp) =>
  eventually(String(text), app.waiting, (reason) => text.test(reason ?? ''))

/** It gives no keys, and everything else. */
async function assertAliveWithoutKeys(app: AppDaemon): Promise<void> {
  const { status, json } = await app.ask('/GetKey?path=wallet')
  assert.deepEqual([status, json.code], [503, 'KMS_UNAVAILABLE'])
  assert.equal((await app.ask('/GetQuote?report_data=00')).status, 200)
}

/** It was asked to join and did not, and left nothing behind. */
async function assertNotJoined(
  { keys, status }: KmsDaemon,
  answer: Answer | undefined,
  expected: readonly [status: number, code: string, text: RegExp],
): Promise<void> {
  assert.ok(answer)
  assert.deepEqual([answer.status, answer.json.code], expected.slice(0, 2), answer.body)
  assert.match(answer.json.error ?? '', expected[2])
  assert.deepEqual(existsSync(keys) ? readdirSync(keys) : [], [])
  assert.equal((await status()).mode, 'onboarding')
}

const onboard = (of: KmsDaemon, source_url: string) =>
  of.setUp('Onboard', { source_url, domain: '127.0.0.1' })

/** How often a method was asked of a KMS. */
async function asked(of: KmsDaemon, method: string): Promise<number> {
  const { requests } = await of.status()
  const counts = requests.filter((one) => one.method === method).map(({ count }) => count)
  return counts.reduce((sum, count) => sum + count, 0)
}

describe('measurements', () => {
  test('that are not those of a KMS get no root keys', async () => {
    const rogue = await site.kms({ name: 'rogue', compose: ROGUE })
    await assertNotJoined(rogue, await onboard(rogue, url), [
      502,
      'KMS_REFUSED',
      /GetKmsKey: KMS not allowed: Boot denied: aggregated MR not allowed/,
    ])
    const made = await rogue.setUp('Bootstrap', { domain: '127.0.0.1' })
    await assertNotJoined(rogue, made, [403, 'KMS_NOT_ALLOWED', /aggregated MR not allowed/])
    await rogue.kill()
  })

  test('that are not those of a KMS give no root keys to one', async () => {
    const open = { name: 'rogue', compose: ROGUE, policy: 'type = "dev"' }
    const rogue = await site.kms(open)
    await rogue.bootstrap()
    const answer = await onboard(joiner, await rogue.url())
    await assertNotJoined(joiner, answer, [
      403,
      'KMS_NOT_ALLOWED',
      /^Source KMS is not allowed: boot denied: aggregated MR not allowed$/,
    ])
    // It was not told who asks, either.
    assert.deepEqual([await asked(rogue, 'GetTempCaCert'), await asked(rogue, 'GetKmsKey')], [0, 0])
    await rogue.kill()
  })

  test('of an application that nobody registered get keys once they are registered', async () => {
    const app = await shop({ name: 'new', compose: '{"name":"new"}' })
    await why(app, /refuses GetAppKey: .*app not registered.*MEASUREMENT_NOT_FOUND/)
    await assertAliveWithoutKeys(app)
    const id = appIdOf('{"name":"new"}')
    site.policy.change(({ apps }) => {
      apps[id] = { composeHashes: ['00'.repeat(32)], allowAnyDevice: true }
    })
    await why(app, /compose hash not allowed/)
    await assertAliveWithoutKeys(app)
    site.policy.allowApp('{"name":"new"}')
    assert.match(await app.key(), /^[0-9a-f]{64}$/)
    await app.kill()
  })
})

describe('another root', () => {
  test('is not believed by an application that knows its own', async () => {
    const { cert } = createSelfSigned(['127.0.0.1'], Date.now())
    const before = await asked(kms, 'GetAppKey')
    const app = await shop({ roots: [cert] })
    await why(app, /its certificate does not end in a known root/)
    await assertAliveWithoutKeys(app)
    assert.equal(await asked(kms, 'GetAppKey'), before)
    await app.kill()
  })

  test('than the one in the event log is not used by the machine', async () => {
    const app = await shop({ provider: '00' })
    await why(app, /this machine measured key-provider/)
    await assertAliveWithoutKeys(app)
    await app.kill()
  })

  test('of machines: neither believes the other', async () => {
    const stranger = await elsewhere.kms({ name: 'joiner' })
    await assertNotJoined(stranger, await onboard(stranger, url), [
      502,
      'KMS_NOT_VERIFIED',
      /^Cannot believe KMS /,
    ])
    await stranger.kill()
    // As if it had been told to believe them.
    const gullible = await elsewhere.kms({ name: 'joiner', maker: site.maker })
    await assertNotJoined(gullible, await onboard(gullible, url), [
      502,
      'KMS_REFUSED',
      /refuses GetKmsKey/,
    ])
    await gullible.kill()
    const app = await shop({ maker: site.maker }, elsewhere)
    await why(app, /refuses GetAppKey.*UNAUTHORIZED/)
    await assertAliveWithoutKeys(app)
    await app.kill()
    const trusting = await shop({}, elsewhere)
    await why(trusting, /Cannot believe KMS/)
    await trusting.kill()
  })
})

/** Bytes in all forms in which they may have passed. */
function formsOf(secret: Uint8Array): string[] {
  const bytes = Buffer.from(secret)
  return [bytes.toString('latin1'), bytes.toString('hex'), bytes.toString('base64').slice(0, 40)]
}

/** Everything that only verified peers may have. */
async function secretsOf({ keys }: KmsDaemon): Promise<string[]> {
  const roots = await openRoots(keys)
  const found = roots?.of(0)
  assert.ok(found)
  const app = appRootKey(found, Buffer.from(appIdOf(SHOP), 'hex'))
  const pem = readFileSync(join(keys, 'root-ca.key'), 'latin1').split('\n')
  // Of PKCS #8, what begins like that of all other keys is none.
  const lines = pem.filter((line) => line !== '' && !line.startsWith('-----')).slice(1)
  return [found.ca, found.k256, app].flatMap(formsOf).concat(lines)
}

async function assertNothingSecret(seen: Buffer): Promise<void> {
  const text = seen.toString('latin1')
  for (const secret of await secretsOf(kms)) assert.ok(!text.includes(secret), 'a key passed')
}

async function between(pairFor: (n: number) => PemPair | undefined): Promise<Middle> {
  const proxy = await middle({ target: await kms.port(), pairFor })
  proxies.push(proxy)
  return proxy
}

/**
 * The best that somebody can show who has no machine of his own: the KMS's evidence, in a
 * certificate for his key, under the authority whose key the KMS gives to everybody.
 */
async function forged(): Promise<PemPair> {
  const { json } = await askUnverified(url, '/prpc/KMS.GetTempCaCert?json')
  const { temp_ca_cert = '', temp_ca_key = '', ca_cert = '' } = json
  const authority = readAuthority(temp_ca_cert, createPrivateKey(temp_ca_key))
  const evidence = parseCertificate(await shownCertificate(await kms.port())).extension(
    RA_TLS_OID.attestation,
  )
  assert.ok(evidence)
  const key = p256Key(randomP256Scalar())
  const request = { subject: 'x', altNames: ['127.0.0.1'], serverAuth: true, clientAuth: false }
  const chain = issueLeaf(authority, key, request, [
    extension(RA_TLS_OID.usage, false, octetString(Buffer.from('kms:rpc'))),
    extension(RA_TLS_OID.attestation, false, evidence),
  ])
  return { cert: [...chain, ca_cert].join(''), key: key.pem }
}

describe('somebody in between', () => {
  test('reads everything of whoever does not look, which proves that these tests would see it', async () => {
    const proxy = await between(() => createSelfSigned(['127.0.0.1'], Date.now()))
    const { json } = await askUnverified(proxy.url, '/prpc/KMS.GetMeta?json')
    const seen = proxy.seen().toString('latin1')
    assert.ok(seen.includes('POST /prpc/KMS.GetMeta?json'))
    assert.ok(seen.includes(json.k256_pubkey ?? ''))
    const secrets = await secretsOf(kms)
    assert.ok(secrets.length > 10)
    await assert.rejects(assertNothingSecret(Buffer.from(`x${secrets[4]}y`, 'latin1')))
  })

  test('with a certificate of his own is refused', async () => {
    for (const [pair, text] of [
      [createSelfSigned(['127.0.0.1'], Date.now()), /its certificate is not made for a KMS/],
      [await forged(), /Quote verification failed: report data mismatch/],
    ] as const) {
      const proxy = await between(() => pair)
      const answer = await onboard(joiner, proxy.url)
      await assertNotJoined(joiner, answer, [502, 'KMS_NOT_VERIFIED', text])
      assert.ok(proxy.connections > 0)
      const app = await shop({ urls: [proxy.url] })
      await why(app, /Cannot believe KMS/)
      await assertAliveWithoutKeys(app)
      await app.kill()
      // Not even a question.
      assert.equal(proxy.seen().length, 0)
    }
  })

  test('who lets the first connection through and answers the second is refused', async () => {
    const pair = await forged()
    const proxy = await between((n) => (n === 0 ? undefined : pair))
    const answer = await onboard(joiner, proxy.url)
    await assertNotJoined(joiner, answer, [502, 'KMS_CHANGED', /somebody is in between/])
    assert.equal(proxy.connections, 2)
    await assertNothingSecret(proxy.seen())
    assert.ok(!proxy.seen().includes('POST'))
    const other = await between((n) => (n % 2 === 0 ? undefined : pair))
    const app = await shop({ urls: [other.url] })
    await why(app, /this connection ends at another key than the first one did/)
    await assertAliveWithoutKeys(app)
    await app.kill()
    await assertNothingSecret(other.seen())
    assert.ok(!other.seen().includes('POST'))
  })

  test('who only passes everything on is no obstacle, and reads nothing', async () => {
    const proxy = await between(() => undefined)
    const app = await shop({ urls: [proxy.url] })
    assert.match(await app.key(), /^[0-9a-f]{64}$/)
    await app.kill()
    const before = await asked(kms, 'GetKmsKey')
    await joiner.join(proxy.url)
    assert.equal(await asked(kms, 'GetKmsKey'), before + 1)
    assert.ok((await asked(kms, 'GetTempCaCert')) > 0)
    assert.deepEqual((await joiner.status()).versions, (await kms.status()).versions)
    assert.ok(proxy.connections >= 4)
    assert.ok(proxy.seen().length > 1000)
    await assertNothingSecret(proxy.seen())
    assert.ok(!proxy.seen().includes('POST'))
    for (const { socket, output } of [kms, joiner]) {
      const { status, body } = await unixRequest(socket, '/cvmd/events')
      assert.equal(status, 200)
      await assertNothingSecret(Buffer.from(`${output()}${body}`, 'latin1'))
    }
  })
})
