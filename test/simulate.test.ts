import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { decode, encode } from 'cborg'
import { awsNitroRoot } from '../src/attest/nitro/aws-root.ts'
import { verifyDocument } from '../src/attest/nitro/verify.ts'
import { parseCollateral } from '../src/attest/tdx/collateral.ts'
import { pckChainOf } from '../src/attest/tdx/pck.ts'
import { parseQuote } from '../src/attest/tdx/quote.ts'
import { intelSgxRoot } from '../src/attest/tdx/root.ts'
import { verifyQuote } from '../src/attest/tdx/verify.ts'
import { reasonOf } from '../src/attest/verdict.ts'
import { readCloud } from '../src/device/dmi.ts'
import type { Transport } from '../src/device/transport.ts'
import { createSimulator, type Simulator } from '../src/simulate/simulator.ts'
import { certificatePem } from '../src/x509/issue.ts'
import { lacks } from './helpers/counterpart.ts'

const REPORTS = '/sys/kernel/config/tsm/report'
const DAY_MS = 24 * 3600 * 1000
const NOW = Date.UTC(2030, 4, 10, 10)

/** A folder for one test. */
function scratch(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-simulate-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

let entries = 0
/** A quote as the device layer takes one. */
async function quoteOver(transport: Transport, reportData: Uint8Array): Promise<Uint8Array> {
  const entry = `${REPORTS}/test-${entries++}`
  await transport.mkdir(entry)
  await transport.write(`${entry}/inblob`, reportData)
  const quote = await transport.read(`${entry}/outblob`, 16_384)
  await transport.rmdir(entry)
  return quote
}

/** The trust of a simulator as a verifier takes it. */
function optionsFor({ trust }: Simulator) {
  assert.ok(trust.platform === 'tdx')
  return { root: trust.root, collateral: parseCollateral(JSON.stringify(trust.collateral)) }
}

test('a quote is accepted under its own root and collateral, and refused under others', async () => {
  const simulator = await createSimulator({ platform: 'tdx', now: () => NOW })
  const other = await createSimulator({ platform: 'tdx', now: () => NOW })
  const reportData = randomBytes(64)
  const quote = await quoteOver(simulator.transport, reportData)
  const own = { ...optionsFor(simulator), at: NOW, reportData }

  const verdict = verifyQuote(quote, own)
  assert.equal(reasonOf(verdict), undefined)
  assert.ok(verdict.accepted)
  assert.equal(verdict.claims?.tcb?.status, 'UpToDate')
  assert.ok(verdict.steps.every(({ outcome }) => outcome === 'passed'))

  const { root, collateral } = optionsFor(other)
  const refused: [string, Parameters<typeof verifyQuote>[1]][] = [
    ["Intel's root", { ...own, root: intelSgxRoot() }],
    ["Intel's root, signatures alone", { at: NOW, collateralRequired: false }],
    ["another simulator's root", { ...own, root }],
    ["another simulator's collateral", { ...own, collateral }],
    ['other report data', { ...own, reportData: randomBytes(64) }],
    ['before the collateral', { ...own, at: NOW - DAY_MS / 2 }],
    ['after the collateral', { ...own, at: NOW + 31 * DAY_MS }],
  ]
  for (const [what, options] of refused) {
    assert.equal(verifyQuote(quote, options).accepted, false, what)
  }
  assert.ok(verifyQuote(quote, { ...own, at: NOW + 29 * DAY_MS }).accepted)
})

test('a thousand callers at once each get a quote over their own data', async () => {
  const simulator = await createSimulator({ platform: 'tdx' })
  const own = optionsFor(simulator)
  const asked = Array.from({ length: 1000 }, () => randomBytes(64))
  const quotes = await Promise.all(asked.map((data) => quoteOver(simulator.transport, data)))
  assert.equal(new Set(quotes.map((quote) => Buffer.from(quote).toString('hex'))).size, 1000)
  for (const [i, quote] of quotes.entries()) {
    assert.deepEqual(Buffer.from(parseQuote(quote).reportData), asked[i])
  }
  assert.deepEqual(await simulator.transport.list(REPORTS), [])
  const [first] = quotes
  assert.ok(first && verifyQuote(first, { ...own, reportData: asked[0] as Buffer }).accepted)
})

test('software-defined registers are what the simulator was given', async () => {
  const mrConfigId = randomBytes(48)
  const { transport } = await createSimulator({ platform: 'tdx', mrConfigId })
  const quote = parseQuote(await quoteOver(transport, new Uint8Array(64)))
  assert.deepEqual(Buffer.from(quote.mrConfigId), mrConfigId)
  assert.deepEqual(Buffer.from(quote.mrOwner), Buffer.alloc(48))
  const short = { platform: 'tdx', mrConfigId: new Uint8Array(47) } as const
  await assert.rejects(createSimulator(short), /^RangeError: Cannot set MRCONFIGID: 47 bytes/)
})

test('keys outlive a restart, the collateral is new at each start', async (t) => {
  const stateDir = scratch(t)
  const folder = join(stateDir, 'simulate')
  const start = (now: number) => createSimulator({ platform: 'tdx', stateDir, now: () => now })
  const before = await start(NOW)
  const quote = await quoteOver(before.transport, new Uint8Array(64))
  const later = NOW + 100 * DAY_MS
  const after = await start(later)
  assert.deepEqual(after.trust.root, before.trust.root)
  assert.ok(verifyQuote(quote, { ...optionsFor(after), at: later }).accepted)
  assert.equal(verifyQuote(quote, { ...optionsFor(before), at: later }).accepted, false)

  const files = ['tdx-collateral.json', 'tdx-keys.pem', 'tdx-root.pem']
  assert.deepEqual(readdirSync(folder).sort(), files)
  const mode = (path: string) => statSync(path).mode & 0o777
  assert.equal(mode(folder), 0o700)
  assert.equal(mode(join(folder, 'tdx-keys.pem')), 0o600)
  const text = (file: string) => readFileSync(join(folder, file), 'utf8')
  assert.equal(text('tdx-root.pem'), certificatePem(after.trust.root))
  const collateral = parseCollateral(text('tdx-collateral.json'))
  assert.ok(verifyQuote(quote, { ...optionsFor(after), collateral, at: later }).accepted)
})

test('damaged keys stop the start and say what to do', async (t) => {
  const stateDir = scratch(t)
  const file = join(stateDir, 'simulate', 'tdx-keys.pem')
  const start = () => createSimulator({ platform: 'tdx', stateDir })
  await start()
  const good = readFileSync(file, 'utf8')
  const blocks = good.split(/(?<=-----END [A-Z ]+-----\n)/)
  const [rootCertificate, rootKey, nextCertificate, nextKey, ...rest] = blocks
  const damaged = {
    empty: '',
    'cut off': good.slice(0, good.length / 2),
    'one key missing': blocks.slice(0, -1).join(''),
    'keys exchanged': [rootCertificate, nextKey, nextCertificate, rootKey, ...rest].join(''),
    'in another order': [nextCertificate, nextKey, rootCertificate, rootKey, ...rest].join(''),
    'no key at all': good.replace(/[A-Za-z0-9+/]{60}/g, 'A'.repeat(60)),
  }
  for (const [what, text] of Object.entries(damaged)) {
    writeFileSync(file, text)
    await assert.rejects(
      start(),
      /^Error: Cannot use the simulator's keys in ".*tdx-keys.pem": /,
      what,
    )
  }
  writeFileSync(file, good)
  await start()
})

test('the machine says what it is where others name their maker', async () => {
  for (const platform of ['tdx', 'nitro'] as const) {
    const { transport } = await createSimulator({ platform })
    const cloud = await readCloud(transport)
    assert.deepEqual(cloud, { vendor: 'cvmd simulator', product: 'NOT A REAL TEE' })
  }
})

test('a Nitro machine has /dev/nsm and nothing of TDX', async (t) => {
  const stateDir = scratch(t)
  const start = () => createSimulator({ platform: 'nitro', stateDir })
  const { transport, trust } = await start()
  const nsm = (request: Uint8Array) => transport.ioctl('/dev/nsm', 'nsm', request)
  const fails = (call: Promise<unknown>, code: string) =>
    assert.rejects(call, { name: 'DeviceError', code })
  assert.equal(await transport.stat('/dev/nsm'), 'character-device')
  await fails(transport.stat(REPORTS), 'ENOENT')
  await fails(transport.stat('/dev/tdx_guest'), 'ENOENT')
  await fails(transport.ioctl('/dev/nsm', 'tdreport', new Uint8Array(64)), 'EINVAL')
  await fails(nsm(new Uint8Array(0)), 'EINVAL')
  await fails(nsm(new Uint8Array(4097)), 'EMSGSIZE')
  await fails(transport.read('/dev/nsm', 1), 'EINVAL')
  assert.deepEqual(decode(await nsm(new Uint8Array(4096))), { Error: 'InvalidOperation' })

  assert.equal((await start()).trust.root.toString(), trust.root.toString(), 'kept')
  const folder = join(stateDir, 'simulate')
  assert.deepEqual(readdirSync(folder).sort(), ['nitro-keys.pem', 'nitro-root.pem'])
})

test('a document is accepted under its own root and refused under others', async () => {
  const start = () => createSimulator({ platform: 'nitro', now: () => NOW })
  const [simulator, other] = [await start(), await start()]
  const [reportData, nonce] = [randomBytes(64), randomBytes(1024)]
  const request = { Attestation: { user_data: reportData, nonce, public_key: null } }
  const answer = await simulator.transport.ioctl('/dev/nsm', 'nsm', encode(request))
  const { document } = decode(answer).Attestation
  const own = { root: simulator.trust.root, at: NOW, reportData, nonce }

  const verdict = verifyDocument(document, own)
  assert.equal(reasonOf(verdict), undefined)
  assert.ok(verdict.accepted)
  assert.equal(verdict.claims?.debug, false)
  assert.ok(verifyDocument(document, { ...own, at: 'document' }).accepted)

  const refused: [string, Parameters<typeof verifyDocument>[1]][] = [
    ["AWS's root", { ...own, root: awsNitroRoot() }],
    ["another simulator's root", { ...own, root: other.trust.root }],
    ['other report data', { ...own, reportData: randomBytes(64) }],
    ['another nonce', { ...own, nonce: randomBytes(64) }],
    ['a day later', { ...own, at: NOW + DAY_MS }],
    ['a day before', { ...own, at: NOW - DAY_MS }],
  ]
  for (const [what, options] of refused) {
    assert.equal(verifyDocument(document, options).accepted, false, what)
  }
  for (const offset of [50, 500, document.byteLength - 1]) {
    const altered = Uint8Array.from(document)
    altered[offset] = (altered[offset] ?? 0) ^ 1
    assert.equal(verifyDocument(altered, own).accepted, false, `bit at ${offset}`)
  }
})

test('openssl follows both chains, and finds nothing revoked', async (t) => {
  if (lacks(t, 'openssl')) return
  const folder = scratch(t)
  const save = (name: string, content: string | Uint8Array) => {
    writeFileSync(join(folder, name), content)
    return name
  }
  const openssl = (...args: string[]) =>
    execFileSync('openssl', args, { cwd: folder, encoding: 'utf8', stdio: 'pipe' })
  const at = ['-attime', String(NOW / 1000)]

  const tdx = await createSimulator({ platform: 'tdx', now: () => NOW })
  assert.ok(tdx.trust.platform === 'tdx')
  const quote = parseQuote(await quoteOver(tdx.transport, new Uint8Array(64)))
  const [pck, platformCa, root] = pckChainOf(quote).map(({ der }) => certificatePem(der))
  const { collateral } = tdx.trust
  const crls = [collateral.root_ca_crl, collateral.pck_crl].map((hex, i) => {
    const der = save(`crl-${i}.der`, Buffer.from(hex, 'hex'))
    return openssl('crl', '-inform', 'DER', '-in', der)
  })
  save('root.pem', root as string)
  save('chain.pem', platformCa as string)
  save('crls.pem', crls.join(''))
  const strict = ['verify', '-x509_strict', ...at, '-CAfile', 'root.pem', '-untrusted', 'chain.pem']
  const revocation = ['-crl_check_all', '-CRLfile', 'crls.pem']
  const leaf = save('pck.pem', pck as string)
  assert.equal(openssl(...strict, ...revocation, leaf), 'pck.pem: OK\n')
  const [tcbSigning = ''] = collateral.tcb_info_issuer_chain.split(/(?<=END CERTIFICATE-----\n)/)
  assert.equal(openssl(...strict, ...revocation, save('tcb.pem', tcbSigning)), 'tcb.pem: OK\n')

  const nitro = await createSimulator({ platform: 'nitro', now: () => NOW })
  const answer = await nitro.transport.ioctl('/dev/nsm', 'nsm', encode({ Attestation: {} }))
  const payload = decode(decode(answer).Attestation.document)[2]
  const fields: Map<string, unknown> = decode(payload, { useMaps: true })
  const certificate = fields.get('certificate') as Uint8Array
  const cabundle = fields.get('cabundle') as Uint8Array[]
  const [nitroRoot, ...authorities] = cabundle.map(certificatePem)
  save('root.pem', nitroRoot as string)
  save('chain.pem', authorities.join(''))
  assert.equal(openssl(...strict, save('leaf.pem', certificatePem(certificate))), 'leaf.pem: OK\n')
  const named = openssl('x509', '-in', 'leaf.pem', '-noout', '-subject', '-issuer')
  assert.equal(named.match(/O = cvmd simulator, OU = NOT A REAL TEE/g)?.length, 2)
})
