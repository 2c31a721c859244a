/**
 * The published JavaScript client of dstack, unchanged and in this process, against a daemon that
 * simulates a machine (spec dstack §12): every exported function and every method of its clients.
 */
import assert from 'node:assert/strict'
import {
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  X509Certificate,
} from 'node:crypto'
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import {
  keccak_256,
  keccak_384,
  keccak_512,
  sha3_256,
  sha3_384,
  sha3_512,
} from '@noble/hashes/sha3'
import * as sdk from '@phala/dstack-sdk'
import { encryptEnvVars } from '@phala/dstack-sdk/encrypt-env-vars'
import { publicKeyOf } from '../plugins/kms/derivation/curves.ts'
import { signRecoverable } from '../plugins/kms/signing/recoverable.ts'
import { readContainer } from '../src/attest/container.ts'
import { raTlsReportData, readRaTls } from '../src/attest/ra-tls.ts'
import { replay } from '../src/attest/replay.ts'
import { parseCollateral } from '../src/attest/tdx/collateral.ts'
import { parseQuote } from '../src/attest/tdx/quote.ts'
import { verifyQuote } from '../src/attest/tdx/verify.ts'
import { isIssuedBy } from '../src/x509/certificate.ts'
import { parsePemChain, readPem } from '../src/x509/pem.ts'
import { type DaemonProcess, freshFolder, runCvmd, startDaemon } from './helpers/daemon.ts'
import {
  hex,
  keyFile,
  SIMULATOR_KEYS,
  SIMULATOR_ROOT,
  signerOf,
  testAuthority,
  unhex,
} from './plugins/kms-fixtures.ts'

const { DstackClient, TappdClient, getComposeHash, to_hex } = sdk

const COMPOSE = {
  name: 'shop',
  runner: 'docker-compose',
  manifest_version: 2,
  public_tcbinfo: true,
  features: ['a', 'b'],
}

/** Methods called on clients, by class; at the end these must be all there are. */
const called = new Set<string>()

/** A client that notes which of its methods are called. */
function noting<Client extends object>(client: Client): Client {
  return new Proxy(client, {
    get(target, name, receiver) {
      const value = Reflect.get(target, name, receiver)
      if (typeof value === 'function') called.add(`${target.constructor.name}.${String(name)}`)
      return value
    },
  })
}

const dstackAt = (endpoint: string) => noting(new DstackClient<sdk.TcbInfoV05x>(endpoint))
const tappdAt = (endpoint: string) => noting(new TappdClient(endpoint))

/** Starts a daemon on a simulated machine, with keys of a key file and events switched on. */
async function startMachine(platform: 'tdx' | 'nitro', more = ''): Promise<DaemonProcess> {
  const folder = freshFolder()
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'keys.json'), keyFile(testAuthority()))
  chmodSync(join(folder, 'keys.json'), 0o600)
  writeFileSync(join(folder, 'app-compose.json'), canonical(COMPOSE))
  const config = `
[plugins.guest]
app_compose = "{folder}/app-compose.json"
emit_event = true
[plugins.kms]
key_file = { file = "{folder}/keys.json" }
${more}`
  return startDaemon({ folder, args: ['--simulate', platform], config })
}

/** What the client hashes of an app-compose file: sorted keys, no spaces. */
function canonical(value: object): string {
  return JSON.stringify(Object.fromEntries(Object.entries(value).sort()))
}

const socketOf = (daemon: DaemonProcess, name = 'dstack') =>
  join(daemon.folder, 'run', `${name}.sock`)

async function stopMachine(daemon: DaemonProcess | undefined): Promise<void> {
  await daemon?.stop()
  if (daemon) rmSync(daemon.folder, { recursive: true, force: true })
}

/** What a verifier has to be told to believe the simulator. */
function trustOf({ folder }: DaemonProcess) {
  const at = (name: string) => join(folder, 'state', 'simulate', name)
  const [root] = readPem(readFileSync(at('tdx-root.pem'), 'latin1'), 'CERTIFICATE', 1)
  const collateral = parseCollateral(readFileSync(at('tdx-collateral.json'), 'utf8'))
  return {
    root,
    collateral,
    files: ['--root', at('tdx-root.pem'), '--collateral', at('tdx-collateral.json')],
  }
}

/** Verifies a quote over the given report data under the simulator's root. */
function assertVerified(daemon: DaemonProcess, quote: Uint8Array, reportData: Uint8Array): void {
  const { root, collateral } = trustOf(daemon)
  const verdict = verifyQuote(quote, { root, collateral, reportData })
  assert.ok(verdict.accepted, JSON.stringify(verdict.steps))
  assert.equal(verifyQuote(quote, { collateral }).accepted, false, 'never under the root of Intel')
}

function padded(bytes: Uint8Array): Uint8Array {
  const result = new Uint8Array(64)
  result.set(bytes)
  return result
}

/** The registers of a quote as the client writes them. */
const rtmrsOf = (quote: string) => parseQuote(unhex(quote)).rtmr.map(hex)

/** The client gives a machine under load half a second only. */
async function reachable(client: { isReachable(): Promise<boolean> }): Promise<boolean> {
  for (let tries = 0; tries < 20; tries++) if (await client.isReachable()) return true
  return false
}

describe('DstackClient', () => {
  let daemon: DaemonProcess
  let client: sdk.DstackClient<sdk.TcbInfoV05x>

  before(async () => {
    daemon = await startMachine('tdx')
    client = dstackAt(socketOf(daemon))
  })
  after(() => stopMachine(daemon))

  test('finds its socket by the environment, and says when there is none', async () => {
    process.env.DSTACK_SIMULATOR_ENDPOINT = socketOf(daemon)
    process.env.TAPPD_SIMULATOR_ENDPOINT = socketOf(daemon, 'tappd')
    try {
      assert.equal((await new DstackClient().version()).__name__, 'VersionResponse')
      assert.equal((await new TappdClient().version()).__name__, 'VersionResponse')
    } finally {
      delete process.env.DSTACK_SIMULATOR_ENDPOINT
      delete process.env.TAPPD_SIMULATOR_ENDPOINT
    }
    assert.throws(() => new DstackClient('/nowhere/dstack.sock'), /does not exist/)
  })

  test('version and isReachable', async () => {
    const { stdout } = await runCvmd(['version'])
    assert.ok(stdout.includes((await client.version()).version))
    assert.equal(await reachable(client), true)
  })

  test('getKey, with every algorithm', async () => {
    for (const [path, key] of Object.entries(SIMULATOR_KEYS)) {
      const answer = await client.getKey(path, 'signing')
      assert.equal(hex(answer.key), key)
      assert.equal(answer.__name__, 'GetKeyResponse')
    }
    assert.equal(hex((await client.getKey()).key), SIMULATOR_KEYS[''])
    const root = hex(publicKeyOf('secp256k1', unhex(SIMULATOR_ROOT)))
    for (const algorithm of ['', 'k256', 'secp256k1', 'ed25519'] as const) {
      const { key, signature_chain: chain } = await client.getKey('wallet', 'mainnet', algorithm)
      const publicKey = publicKeyOf(algorithm === 'ed25519' ? algorithm : 'secp256k1', key)
      assert.equal(chain.length, 2)
      const claim = Buffer.from(`mainnet:${hex(publicKey)}`)
      assert.equal(signerOf(chain[0] ?? new Uint8Array(), claim), root)
    }
  })

  test('getTlsKey, with every option', async () => {
    const plain = await client.getTlsKey()
    assert.deepEqual(Object.keys(plain).sort(), [
      '__name__',
      'asUint8Array',
      'certificate_chain',
      'key',
    ])
    assert.equal(plain.asUint8Array().length, 138)
    assert.equal(plain.asUint8Array(32).length, 32)
    const purposes = new X509Certificate(plain.certificate_chain[0] ?? '')
    assert.equal(purposes.subjectAltName, undefined)

    const { key, certificate_chain: pem } = await client.getTlsKey({
      subject: 'shop.example',
      altNames: ['shop.example', '192.0.2.7'],
      usageRaTls: true,
      usageServerAuth: false,
      usageClientAuth: true,
      notBefore: 1_700_000_000,
      notAfter: 4_000_000_000,
      withAppInfo: true,
    })
    const [leaf, root] = parsePemChain(pem.join(''))
    assert.ok(leaf && root)
    assert.ok(isIssuedBy(leaf, root))
    assert.deepEqual([leaf.notBefore, leaf.notAfter], [1_700_000_000_000, 4_000_000_000_000])
    const x509 = new X509Certificate(pem[0] ?? '')
    assert.ok(x509.checkPrivateKey(createPrivateKey(key)))
    assert.match(x509.subject, /CN=shop\.example/)
    assert.equal(x509.subjectAltName, 'DNS:shop.example, IP Address:192.0.2.7')

    const { evidence, appInfo } = readRaTls(leaf)
    assert.ok(evidence?.bound && evidence.platform.kind === 'tdx')
    const { quote, eventLog } = evidence.platform
    assertVerified(daemon, quote, raTlsReportData(leaf.spki))
    assert.equal(hex(replay(eventLog)[3]), hex(parseQuote(quote).rtmr[3]))
    assert.equal(hex(appInfo?.composeHash ?? new Uint8Array()), getComposeHash(COMPOSE))
  })

  test('getQuote verifies under the simulator’s root alone, and replays', async () => {
    for (const data of [
      'text, not hex',
      Buffer.from('1234', 'hex'),
      new Uint8Array(64).fill(7),
      '',
    ]) {
      const answer = await client.getQuote(data)
      const reportData = padded(typeof data === 'string' ? Buffer.from(data) : data)
      assert.equal(answer.report_data, hex(reportData))
      assertVerified(daemon, unhex(answer.quote), reportData)
      assert.deepEqual(answer.replayRtmrs(), rtmrsOf(answer.quote))
    }
    await assert.rejects(client.getQuote(new Uint8Array(65)), /Report data is too large/)
  })

  test('a quote is accepted by cvmd verify', async () => {
    const answer = join(daemon.folder, 'answer.json')
    writeFileSync(answer, JSON.stringify(await client.getQuote('verify me')))
    const { files } = trustOf(daemon)
    const reportData = ['--report-data', hex(Buffer.from('verify me'))]
    const judged = await runCvmd(['verify', answer, ...files, ...reportData])
    assert.equal(judged.status, 0, judged.stdout + judged.stderr)
    const unbelieved = await runCvmd(['verify', answer, ...reportData])
    assert.equal(unbelieved.status, 1, 'never under the root of Intel')
  })

  test('attest gives the container of the same machine', async () => {
    const answer = await client.attest('attest me')
    assert.equal(answer.__name__, 'AttestResponse')
    const { platform, stack } = readContainer(unhex(answer.attestation))
    assert.ok(platform.kind === 'tdx')
    assert.equal(hex(stack.reportData), hex(padded(Buffer.from('attest me'))))
    assertVerified(daemon, platform.quote, stack.reportData)
    await assert.rejects(client.attest('x'.repeat(65)), /Report data is too large/)
  })

  test('info names the application, and its log replays to its registers', async () => {
    const info = await client.info()
    const { tcb_info: tcb } = info
    assert.equal(info.app_name, COMPOSE.name)
    assert.equal(info.compose_hash, getComposeHash(COMPOSE))
    assert.equal(info.app_id, info.compose_hash.slice(0, 40))
    assert.equal(info.instance_id.length, 40)
    assert.equal(tcb.compose_hash, info.compose_hash)
    assert.equal(tcb.app_compose, canonical(COMPOSE))
    const { quote } = await client.getQuote('')
    const { mrtd, rtmr } = parseQuote(unhex(quote))
    assert.equal(tcb.mrtd, hex(mrtd))
    assert.deepEqual([tcb.rtmr0, tcb.rtmr1, tcb.rtmr2, tcb.rtmr3], rtmr.map(hex))
    assert.deepEqual(replay(tcb.event_log).map(hex), rtmr.map(hex))
  })

  test('emitEvent is measured, so that the log replays to the next quote', async () => {
    const before = rtmrsOf((await client.getQuote('')).quote)
    for (const payload of ['text', Buffer.from([1, 2]), new Uint8Array([3])]) {
      await client.emitEvent('of the shop', payload)
    }
    const answer = await client.getQuote('')
    const rtmrs = rtmrsOf(answer.quote)
    assert.deepEqual(rtmrs.slice(0, 3), before.slice(0, 3))
    assert.notEqual(rtmrs[3], before[3])
    assert.deepEqual(answer.replayRtmrs(), rtmrs)
    const events = JSON.parse(answer.event_log) as { event: string; event_payload: string }[]
    assert.deepEqual(
      events.filter(({ event }) => event === 'of the shop').map((event) => event.event_payload),
      [hex(Buffer.from('text')), '0102', '03'],
    )
    // The client does not look at the answer, so a refused event is only seen in the log.
    await client.emitEvent('app-id', 'mine')
    assert.deepEqual(rtmrsOf((await client.getQuote('')).quote), rtmrs)
    await assert.rejects(client.emitEvent('', 'x'), /Event name cannot be empty/)
  })

  test('sign and verify, with every algorithm', async () => {
    const data = 'sign me'
    const digest = createHash('sha256').update(data).digest()
    for (const [algorithm, message] of [
      ['ed25519', data],
      ['secp256k1', Buffer.from(data)],
      ['secp256k1_prehashed', digest],
    ] as const) {
      const signed = await client.sign(algorithm, message)
      const { signature, signature_chain: chain, public_key: publicKey } = signed
      assert.deepEqual(chain[0], signature)
      assert.equal(chain.length, 3)
      assert.deepEqual(
        { ...(await client.verify(algorithm, message, signature, publicKey)) },
        { valid: true, __name__: 'VerifyResponse' },
      )
      const other = createHash('sha256').update('other').digest()
      assert.equal((await client.verify(algorithm, other, signature, publicKey)).valid, false)
    }
    await assert.rejects(client.sign('secp256k1_prehashed', 'short'), /requires a 32-byte digest/)
  })

  test('what it has given up does what it says', async () => {
    await assert.rejects(client.deriveKey('a'), /deriveKey is deprecated/)
    await assert.rejects(client.tdxQuote('a'), /only supports raw/)
    const answer = await client.tdxQuote('a', 'raw')
    assertVerified(daemon, unhex(answer.quote), padded(Buffer.from('a')))
  })

  test('works over HTTP too, where something forwards the socket', async () => {
    const forwarder = createServer((tcp) => {
      const unix = connect(socketOf(daemon))
      tcp.pipe(unix).pipe(tcp)
      for (const one of [tcp, unix]) one.on('error', () => [tcp, unix].map((s) => s.destroy()))
    })
    await new Promise<void>((done) => forwarder.listen(0, '127.0.0.1', done))
    try {
      const { port } = forwarder.address() as AddressInfo
      const overHttp = dstackAt(`http://127.0.0.1:${port}`)
      assert.equal(hex((await overHttp.getKey('test')).key), SIMULATOR_KEYS.test)
      assert.equal((await overHttp.info()).app_name, COMPOSE.name)
      const { quote } = await overHttp.getQuote('http')
      assertVerified(daemon, unhex(quote), padded(Buffer.from('http')))
    } finally {
      forwarder.close()
    }
  })

  describe('with an error of the daemon', () => {
    test('fails at once, each method in its own way', async () => {
      await assert.rejects(client.getKey('a', '', 'p256'), TypeError)
      await assert.rejects(client.sign('p256', 'a'), TypeError)
      const key = (await client.getTlsKey({ notBefore: 2, notAfter: 1 })) as unknown as {
        readonly error: string
        asUint8Array(): Uint8Array
      }
      assert.equal(key.error, 'not_before must be earlier than not_after')
      assert.throws(() => key.asUint8Array(), TypeError)
      const verified = (await client.verify('ed25519', 'a', 'b', 'c')) as unknown as {
        readonly error: string
        readonly valid?: boolean
      }
      assert.match(verified.error, /no public key of the algorithm/)
      assert.equal(verified.valid, undefined)
    })

    test('a text beyond ASCII, whose length it counts wrong, does not hang', async () => {
      // Node's parser meets the rest of the body as a new request, and answers by itself.
      const failure = /failed to parse response|Cannot read properties|undefined/
      await assert.rejects(client.getKey('schlüssel'), failure)
    })
  })
})

describe('TappdClient', () => {
  let daemon: DaemonProcess
  let client: sdk.TappdClient

  before(async () => {
    daemon = await startMachine('tdx')
    client = tappdAt(socketOf(daemon, 'tappd'))
  })
  after(() => stopMachine(daemon))

  test('isReachable', async () => {
    assert.equal(await reachable(client), true)
  })

  test('deriveKey gives the same key each time, with a certificate for it', async () => {
    const one = await client.deriveKey('tls', 'shop.example', ['shop.example'])
    const two = await client.deriveKey('tls')
    const other = await client.deriveKey()
    assert.equal(one.key, two.key)
    assert.notEqual(one.key, other.key)
    const x509 = new X509Certificate(one.certificate_chain[0] ?? '')
    assert.ok(x509.checkPrivateKey(createPrivateKey(one.key)))
    assert.deepEqual([x509.subject, x509.subjectAltName], ['CN=shop.example', 'DNS:shop.example'])
    assert.equal(new X509Certificate(two.certificate_chain[0] ?? '').subject, 'CN=tls')
    const { key } = await client.getKey('tls')
    assert.equal(hex(one.asUint8Array().subarray(36, 68)), hex(key))
    // Why nobody may take the first bytes of it for a key: they are the same for all.
    assert.deepEqual(one.asUint8Array(32), other.asUint8Array(32))
  })

  test('tdxQuote, with every hash', async () => {
    const data = Buffer.from('tappd')
    const tagged = Buffer.from('app-data:tappd')
    const sha = (name: string) => createHash(name).update(tagged).digest()
    for (const [algorithm, digest] of [
      [undefined, sha('sha512')],
      ['sha256', sha('sha256')],
      ['sha384', sha('sha384')],
      ['sha512', sha('sha512')],
      ['sha3-256', sha3_256(tagged)],
      ['sha3-384', sha3_384(tagged)],
      ['sha3-512', sha3_512(tagged)],
      ['keccak256', keccak_256(tagged)],
      ['keccak384', keccak_384(tagged)],
      ['keccak512', keccak_512(tagged)],
    ] as const) {
      const answer = await client.tdxQuote(data, algorithm)
      assertVerified(daemon, unhex(answer.quote), padded(digest))
      assert.deepEqual(answer.replayRtmrs(), rtmrsOf(answer.quote))
    }
    const raw = await client.tdxQuote(data, 'raw')
    const leftPadded = new Uint8Array(64)
    leftPadded.set(data, 64 - data.length)
    assertVerified(daemon, unhex(raw.quote), leftPadded)
    await assert.rejects(client.tdxQuote(new Uint8Array(65), 'raw'), /Report data is too large/)
    await assert.rejects(client.tdxQuote(data, 'md5' as 'raw'), /^Error: invalid hash algorithm$/)
  })

  test('what it inherits works on its own socket', async () => {
    assert.equal(hex((await client.getKey('test', '', 'ed25519')).key), SIMULATOR_KEYS.test)
    const quote = await client.getQuote('tappd')
    assertVerified(daemon, unhex(quote.quote), padded(Buffer.from('tappd')))
    assert.equal((await client.info()).app_name, COMPOSE.name)
    assert.equal((await client.version()).__name__, 'VersionResponse')
    assert.ok((await client.attest('')).attestation.length > 0)
    assert.equal((await client.getTlsKey({ notAfter: 4_000_000_000 })).certificate_chain.length, 2)
    await client.emitEvent('of tappd', '')
    assert.deepEqual((await client.getQuote('')).replayRtmrs().length, 4)
    const { signature, public_key: key } = await client.sign('ed25519', 'a')
    assert.equal((await client.verify('ed25519', 'a', signature, key)).valid, true)
  })
})

describe('on Nitro', () => {
  let daemon: DaemonProcess
  before(async () => {
    daemon = await startMachine('nitro')
  })
  after(() => stopMachine(daemon))

  test('keys, certificates and containers are there, and no quote', async () => {
    const client = dstackAt(socketOf(daemon))
    assert.equal(hex((await client.getKey('test')).key), SIMULATOR_KEYS.test)
    await assert.rejects(client.getQuote('a'), /AWS Nitro/)
    const { platform, stack } = readContainer(unhex((await client.attest('a')).attestation))
    assert.equal(platform.kind, 'nitro-enclave')
    assert.equal(hex(stack.reportData), hex(padded(Buffer.from('a'))))
    assert.equal((await client.info()).app_name, COMPOSE.name)
    const { certificate_chain: pem } = await client.getTlsKey({
      usageRaTls: true,
      withAppInfo: true,
    })
    const [leaf] = parsePemChain(pem[0] ?? '')
    assert.ok(leaf)
    const { evidence, appInfo } = readRaTls(leaf)
    assert.equal(evidence?.bound, true)
    assert.equal(appInfo?.mrAggregated.length, 32)
  })
})

describe('without a key file and with events off', () => {
  let daemon: DaemonProcess
  before(async () => {
    daemon = await startDaemon({ folder: freshFolder(), args: ['--simulate', 'tdx'] })
  })
  after(() => stopMachine(daemon))

  test('keys stay the same over a restart, and certificates are the application’s own', async () => {
    const client = dstackAt(socketOf(daemon))
    const { key, signature_chain: chain } = await client.getKey('a')
    assert.equal(chain[1]?.length, 0, 'no KMS vouches for them')
    const { certificate_chain: pem } = await client.getTlsKey({ usageRaTls: true })
    const [leaf, root] = parsePemChain(pem.join(''))
    assert.ok(leaf && root)
    assert.ok(isIssuedBy(leaf, root) && isIssuedBy(root, root))
    for (const certificate of [leaf, root]) {
      const { evidence } = readRaTls(certificate)
      assert.ok(evidence?.bound && evidence.platform.kind === 'tdx')
      assertVerified(daemon, evidence.platform.quote, raTlsReportData(certificate.spki))
    }
    const before = (await client.getQuote('')).quote
    await client.emitEvent('ignored', 'x')
    assert.deepEqual(rtmrsOf((await client.getQuote('')).quote), rtmrsOf(before))

    await daemon.stop()
    daemon = await startDaemon({ folder: daemon.folder, args: ['--simulate', 'tdx'] })
    const again = dstackAt(socketOf(daemon))
    assert.deepEqual((await again.getKey('a')).key, key)
    const renewed = parsePemChain((await again.getTlsKey()).certificate_chain[1] ?? '')[0]
    assert.deepEqual(renewed?.spki, root.spki)
  })
})

describe('functions without a daemon', () => {
  test('getComposeHash and to_hex', () => {
    const hash = createHash('sha256').update(canonical(COMPOSE)).digest('hex')
    assert.equal(getComposeHash(COMPOSE), hash)
    for (const data of ['ab', Buffer.from('ab'), new Uint8Array([0x61, 0x62])]) {
      assert.equal(to_hex(data), '6162')
    }
  })

  test('verifyEnvEncryptPublicKey accepts what is signed as a KMS signs it', () => {
    const key = new Uint8Array(32).fill(5)
    const root = unhex(SIMULATOR_ROOT)
    const signer = `0x${hex(publicKeyOf('secp256k1', root))}`
    const appId = 'ab'.repeat(20)
    const now = Math.floor(Date.now() / 1000)
    const timestamp = Buffer.alloc(8)
    timestamp.writeBigUInt64BE(BigInt(now))
    const prefix = Buffer.concat([Buffer.from('dstack-env-encrypt-pubkey:'), unhex(appId)])
    const legacy = signRecoverable(root, Buffer.concat([prefix, key]))
    const signature = signRecoverable(root, Buffer.concat([prefix, timestamp, key]))
    assert.equal(sdk.verifyEnvEncryptPublicKey(key, signature, appId, now), signer)
    assert.notEqual(sdk.verifyEnvEncryptPublicKey(key, legacy, appId, now), signer)
    assert.equal(sdk.verifyEnvEncryptPublicKey(key, signature, appId, now - 400), null)
    assert.equal(sdk.verifyEnvEncryptPublicKeyLegacy(key, legacy, appId), signer)
  })

  test('encryptEnvVars encrypts for a key that the KMS gives', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('x25519')
    const raw = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32)
    const message = unhex(await encryptEnvVars([{ key: 'TOKEN', value: 'x' }], hex(raw)))
    const head = Buffer.from('302a300506032b656e032100', 'hex')
    const peer = createPublicKey({
      key: Buffer.concat([head, message.subarray(0, 32)]),
      format: 'der',
      type: 'spki',
    })
    const shared = diffieHellman({ publicKey: peer, privateKey })
    const decipher = createDecipheriv('aes-256-gcm', shared, message.subarray(32, 44))
    decipher.setAuthTag(message.subarray(-16))
    const text = Buffer.concat([decipher.update(message.subarray(44, -16)), decipher.final()])
    assert.deepEqual(JSON.parse(text.toString()), { env: [{ key: 'TOKEN', value: 'x' }] })
  })
})

test('nothing that the package exports was left out', () => {
  assert.deepEqual(
    Object.keys(sdk)
      .filter((name) => name !== 'default')
      .sort(),
    [
      'DstackClient',
      'TappdClient',
      'getComposeHash',
      'to_hex',
      'verifyEnvEncryptPublicKey',
      'verifyEnvEncryptPublicKeyLegacy',
    ],
  )
  const inherited = Object.getOwnPropertyNames(DstackClient.prototype)
  const methods = [
    ...inherited.map((name) => `DstackClient.${name}`),
    ...new Set(
      [...inherited, ...Object.getOwnPropertyNames(TappdClient.prototype)].map(
        (name) => `TappdClient.${name}`,
      ),
    ),
  ].filter((name) => !name.endsWith('.constructor'))
  assert.deepEqual(
    methods.filter((name) => !called.has(name)),
    [],
  )
})
