/**
 * The published JavaScript client of dstack, unchanged, on a machine whose keys come from a KMS on
 * another one: two daemons that simulate machines of one maker.
 */
import assert from 'node:assert/strict'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { cpSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { DstackClient, TappdClient, type TcbInfoV05x } from '@phala/dstack-sdk'
import { issuedClaim } from '../../plugins/kms/derivation/kms-keys.ts'
import { readRaTls } from '../../src/attest/ra-tls.ts'
import { createSimulator } from '../../src/simulate/simulator.ts'
import type { Certificate } from '../../src/x509/certificate.ts'
import { verifyPath } from '../../src/x509/path.ts'
import { parsePemChain } from '../../src/x509/pem.ts'
import { type DaemonProcess, freshFolder, startDaemon, unixRequest } from '../helpers/daemon.ts'
import { hex, signerOf, unhex } from './kms-fixtures.ts'

/** Those that applications have, and the operator's; no port, as several daemons run here. */
const LISTEN = [
  '[[listen]]\nunix = "{folder}/run/cvmd.sock"\n',
  ...['dstack', 'tappd'].map(
    (name) =>
      `[[listen]]\nunix = "{folder}/run/${name}.sock"\nplugins = ["tdx", "guest", "kms"]\ndialect = "dstack"\n`,
  ),
].join('')

const TRUST = `[plugins.kms.trust]
tdx_root = "{folder}/state/simulate/tdx-root.pem"
nitro_root = "{folder}/state/simulate/nitro-root.pem"
collateral = "{folder}/state/simulate/tdx-collateral.json"
`

let kms: DaemonProcess
let root: Certificate
let guest: DaemonProcess
let client: DstackClient<TcbInfoV05x>
const folders = [freshFolder(), freshFolder()] as const
const [kmsFolder, guestFolder] = folders

/** The root certificate's file, which an operator carries to the guests. */
const rootFile = join(kmsFolder, 'state', 'kms', 'root-keys', 'root-ca.crt')

const startKms = (address = '127.0.0.1:0') =>
  startDaemon({
    folder: kmsFolder,
    args: ['--simulate', 'tdx'],
    config: `${LISTEN}
[plugins.kms]
role = "server"
${TRUST}
[plugins.kms.server]
address = "${address}"
auto_bootstrap_domain = "kms.example"
[plugins.kms.server.policy]
type = "dev"
`,
  })

async function startGuest(platform: 'tdx' | 'nitro' = 'tdx'): Promise<void> {
  guest = await startDaemon({
    folder: guestFolder,
    args: ['--simulate', platform],
    config: `${LISTEN.replaceAll('"tdx"', `"${platform}"`)}
[plugins.guest]
key_provider = { name = "kms", id = "${hex(root.spki)}" }
${TRUST}
[plugins.kms.upstream]
urls = ["https://${await addressOf(kms)}"]
root_ca = "${rootFile}"
`,
  })
  await untilReady(guest)
  client = new DstackClient<TcbInfoV05x>(join(guestFolder, 'run', 'dstack.sock'))
}

async function addressOf(daemon: DaemonProcess): Promise<string> {
  for (let tries = 0; tries < 200; tries++) {
    const { body } = await unixRequest(daemon.socket, '/cvmd/kms')
    const { mode, address } = JSON.parse(body) as Record<string, string>
    if (mode === 'serving' && address) return address
    await sleep(50)
  }
  throw new Error(`the KMS does not serve:\n${daemon.output()}`)
}

/** Asks until an answer is there; the first attempt may come before the KMS does. */
async function untilReady(daemon: DaemonProcess): Promise<void> {
  let body = ''
  for (let tries = 0; tries < 400; tries++) {
    const answer = await unixRequest(daemon.socket, '/cvmd/ready')
    if (answer.status === 200) return
    body = answer.body
    await sleep(50)
  }
  throw new Error(`the guest is not ready: ${body}`)
}

before(async () => {
  // Machines of one maker have their evidence from the same authorities.
  const simulated = join(kmsFolder, 'state', 'simulate')
  for (const platform of ['tdx', 'nitro'] as const) {
    await createSimulator({ platform, stateDir: join(kmsFolder, 'state') })
  }
  cpSync(simulated, join(guestFolder, 'state', 'simulate'), { recursive: true })
  kms = await startKms()
  await addressOf(kms)
  root = parsePemChain(readFileSync(rootFile, 'latin1'), 1)[0]
  await startGuest()
})

after(async () => {
  await guest?.stop()
  await kms?.stop()
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

test('getKey has a key that the KMS vouches for, the same on each start', async () => {
  const { key, signature_chain: chain } = await client.getKey('wallet', 'mainnet')
  assert.equal(key.length, 32)
  const { body } = await unixRequest(kms.socket, '/cvmd/kms')
  const [{ k256_public_key: rootKey }] = JSON.parse(body).versions
  const { app_id: appId } = await client.info()
  const { signature_chain: again } = await client.getKey('other')
  assert.equal(hex(again[1] ?? new Uint8Array()), hex(chain[1] ?? new Uint8Array()))
  // The application's own key follows from what it signs.
  const { public_key: signing, signature_chain: links } = await client.sign('secp256k1', 'data')
  const claim = Buffer.from(`signing:${hex(signing)}`)
  const appKey = signerOf(links[1] ?? new Uint8Array(), claim)
  const issued = issuedClaim(unhex(appId), unhex(appKey))
  assert.equal(signerOf(links[2] ?? new Uint8Array(), issued), rootKey)

  await guest.stop()
  await startGuest()
  assert.equal(hex((await client.getKey('wallet', 'mainnet')).key), hex(key))
})

test('getTlsKey has a certificate below the root of the KMS, with evidence', async () => {
  const { key, certificate_chain: pem } = await client.getTlsKey({
    subject: 'shop.example',
    altNames: ['shop.example'],
    usageRaTls: true,
    notAfter: 4_000_000_000,
    withAppInfo: true,
  })
  const [leaf, authority, last] = parsePemChain(pem.join(''))
  assert.ok(leaf && authority && last)
  assert.equal(hex(last.der), hex(root.der))
  verifyPath([leaf, authority], root, Date.now())
  const x509 = new X509Certificate(pem[0] ?? '')
  assert.ok(x509.checkPrivateKey(createPrivateKey(key)))
  assert.equal(x509.subjectAltName, 'DNS:shop.example')
  assert.equal(leaf.notAfter, 4_000_000_000_000)
  const { evidence, appInfo } = readRaTls(leaf)
  assert.equal(evidence?.bound, true)
  const provider = JSON.parse(Buffer.from(appInfo?.keyProvider ?? []).toString())
  assert.deepEqual(provider, { name: 'kms', id: hex(root.spki) })
})

test('deriveKey of the older client has its certificate from there, too', async () => {
  const tappd = new TappdClient(join(guestFolder, 'run', 'tappd.sock'))
  const one = await tappd.deriveKey('tls', 'shop.example', ['shop.example'])
  const two = await tappd.deriveKey('tls')
  assert.equal(one.key, two.key)
  assert.equal(
    hex(parsePemChain(one.certificate_chain.join(''))[2]?.der ?? new Uint8Array()),
    hex(root.der),
  )
  assert.equal(hex((await tappd.getKey('a')).key), hex((await client.getKey('a')).key))
})

test('sign and verify go on while the KMS is away, and certificates when it is back', async () => {
  const address = await addressOf(kms)
  await kms.stop()
  const signed = await client.sign('ed25519', 'data')
  const { signature, public_key: publicKey } = signed
  assert.equal((await client.verify('ed25519', 'data', signature, publicKey)).valid, true)
  const refused = (await client.getTlsKey()) as unknown as Record<string, string>
  assert.equal(refused.code, 'KMS_UNAVAILABLE')
  kms = await startKms(address)
  await addressOf(kms)
  assert.equal((await client.getTlsKey()).certificate_chain.length, 3)
})

test('an enclave has its keys and certificates from there, too', async () => {
  await guest.stop()
  await startGuest('nitro')
  const { key } = await client.getKey('wallet')
  assert.equal(key.length, 32)
  const { certificate_chain: pem } = await client.getTlsKey({ usageRaTls: true })
  const [leaf, authority, last] = parsePemChain(pem.join(''))
  assert.ok(leaf && authority && last)
  verifyPath([leaf, authority], root, Date.now())
  const { evidence } = readRaTls(leaf)
  assert.deepEqual([evidence?.bound, evidence?.platform.kind], [true, 'nitro-enclave'])
})
