/** Collateral from a service, which is on this machine. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { readAuthorities } from '../../plugins/kms/trust/read-file.ts'
import { type Collateral, parseCollateral } from '../../src/attest/tdx/collateral.ts'
import { fetchCollateral } from '../../src/collateral/fetch.ts'
import { type Pccs, pccsOf } from '../../src/collateral/pccs-url.ts'
import type { QuotedPlatform } from '../../src/collateral/platform.ts'
import type { TrustError } from '../../src/collateral/trust-error.ts'
import { createSelfSigned } from '../../src/tls/self-signed.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import {
  type Answers,
  answersOf,
  collateralOf,
  DAY_MS,
  ELSEWHERE,
  maker,
  type Part,
  PLATFORM_HERE,
  standInPccs,
  temporaryFolder,
} from './kms-trust-fixtures.ts'

const NOW = Date.now()
const pki = maker(NOW)
const root = parseCertificate(pki.root.certificate)
const made = collateralOf(pki, NOW)
const good = answersOf(made)
const expected = parseCollateral(JSON.stringify(made))

/** What is verified of collateral; how its chains are written is not. */
const signed = ({ rootCrl, pckCrl, tcbInfo, qeIdentity }: Collateral) =>
  [rootCrl, pckCrl, tcbInfo.text, tcbInfo.signature, qeIdentity.text, qeIdentity.signature].map(
    (part) => Buffer.from(part).toString('latin1'),
  )

const fetched = (service: Pccs, platform = PLATFORM_HERE, at = NOW, signal?: AbortSignal) =>
  fetchCollateral(service, platform, { root, at }, signal)

async function failure(
  service: Pccs,
  platform?: QuotedPlatform,
  at?: number,
  signal?: AbortSignal,
): Promise<TrustError> {
  const error = await fetched(service, platform, at, signal).then(
    () => assert.fail('it was accepted'),
    (error) => error,
  )
  assert.equal(error.name, 'TrustError', String(error))
  return error
}

test('everything about a platform comes in four requests', async (t) => {
  const pccs = await standInPccs(t, good)
  const { collateral, facts } = await fetched(pccsOf(pccs.url))
  assert.deepEqual(collateral, expected)
  assert.deepEqual([facts.fmspc, facts.ca], [PLATFORM_HERE.fmspc, 'platform'])
  assert.ok(facts.validUntil > NOW + 29 * DAY_MS && facts.validUntil <= NOW + 30 * DAY_MS)
  assert.deepEqual(pccs.seen.map(({ method, path }) => `${method} ${path}`).sort(), [
    'GET /sgx/certification/v4/pckcrl?ca=platform&encoding=der',
    'GET /sgx/certification/v4/rootcacrl',
    'GET /tdx/certification/v4/qe/identity',
    `GET /tdx/certification/v4/tcb?fmspc=${PLATFORM_HERE.fmspc}`,
  ])
})

test('the forms in which services answer are read', async (t) => {
  const form = (pem: string) => new URLSearchParams({ x: pem }).toString().slice(2)
  const pccs = await standInPccs(t, answersOf(made, form))
  // Caches of version 3 send this list in hex, and Intel sends that of the root as DER.
  const [ofPck, ofRoot] = [good.pckcrl, good.rootcacrl]
  const hexBody = Buffer.from(`${made.pck_crl}\n`)
  pccs.answers.pckcrl = { ...pccs.answers.pckcrl, body: hexBody }
  pccs.answers.rootcacrl = { ...ofRoot, body: Buffer.from(made.root_ca_crl, 'hex') }
  assert.deepEqual(signed((await fetched(pccsOf(pccs.url))).collateral), signed(expected))
  const pem = `-----BEGIN X509 CRL-----\n${Buffer.from(ofPck.body).toString('base64')}\n-----END X509 CRL-----\n`
  pccs.answers.pckcrl = { ...pccs.answers.pckcrl, body: Buffer.from(pem) }
  assert.deepEqual(signed((await fetched(pccsOf(pccs.url))).collateral), signed(expected))
})

test('base URLs are read as other tools write them', () => {
  for (const text of [
    'https://pccs.example:8081',
    'https://pccs.example:8081/',
    'https://pccs.example:8081/sgx/certification/v4',
    'https://pccs.example:8081/tdx/certification/v4/',
  ]) {
    const { rootCrl, base } = pccsOf(text)
    assert.equal(rootCrl.href, 'https://pccs.example:8081/sgx/certification/v4/rootcacrl')
    assert.equal(base.href, 'https://pccs.example:8081/')
  }
  const behind = pccsOf('http://cache.example/intel/sgx/certification/v4/')
  assert.equal(behind.rootCrl.href, 'http://cache.example/intel/sgx/certification/v4/rootcacrl')
  assert.equal(
    pccsOf('https://api.trustedservices.intel.com').rootCrl.href,
    'https://certificates.trustedservices.intel.com/IntelSGXRootCA.der',
  )
})

test('the list of the root may be elsewhere, as DER', async (t) => {
  const pccs = await standInPccs(t, good)
  const elsewhere = await standInPccs(t, {
    ...good,
    rootcacrl: { ...good.rootcacrl, body: Buffer.from(made.root_ca_crl, 'hex') },
  })
  const service = { ...pccsOf(pccs.url), rootCrl: pccsOf(elsewhere.url).rootCrl }
  assert.deepEqual((await fetched(service)).collateral, expected)
  assert.equal(pccs.seen.length, 3)
})

test('statuses other than 200 are told, and redirects not followed', async (t) => {
  const pccs = await standInPccs(t, good)
  const trap = await standInPccs(t, good)
  for (const part of ['pckcrl', 'rootcacrl', 'tcb', 'identity'] as const) {
    for (const status of [204, 301, 302, 307, 404, 429, 500, 503]) {
      pccs.odd = {
        [part]: (response: ServerResponse) =>
          response.writeHead(status, { location: `${trap.url}/x` }).end(),
      }
      const { code, message } = await failure(pccsOf(pccs.url))
      assert.equal(code, 'PCCS_REFUSED')
      assert.match(message, new RegExp(`^Cannot get ${pccs.url}/[a-z0-9/]+: status ${status}`))
    }
  }
  assert.equal(trap.seen.length, 0)
})

test('what is too slow, cut off, or not there', async (t) => {
  const pccs = await standInPccs(t, good)
  const service = pccsOf(pccs.url)
  const impatient = { ...service, deadlineMs: 200 }
  pccs.odd = { tcb: () => undefined }
  assert.equal((await failure(impatient)).code, 'PCCS_TIMEOUT')
  pccs.odd = { tcb: (response) => response.writeHead(200, { 'content-length': '9' }).write('{') }
  assert.equal((await failure(impatient)).code, 'PCCS_TIMEOUT')
  pccs.odd = {
    identity: (response) => {
      response.writeHead(200, { 'content-length': '100000' })
      response.write('{"enclaveIdentity":', () => response.destroy())
    },
  }
  assert.equal((await failure(service)).code, 'PCCS_UNREACHABLE')
  const closed = createServer()
  await new Promise<void>((done) => closed.listen(0, '127.0.0.1', done))
  const { port } = closed.address() as AddressInfo
  await new Promise((done) => closed.close(done))
  const gone = await failure(pccsOf(`http://127.0.0.1:${port}`))
  assert.equal(gone.code, 'PCCS_UNREACHABLE')
  assert.match(gone.message, /ECONNREFUSED|ConnectionRefused/)
})

test('what nobody waits for any more is ended', async (t) => {
  const pccs = await standInPccs(t, good)
  const controller = new AbortController()
  const closed = new Promise<void>((done) => {
    pccs.odd = {
      tcb: (response) => {
        response.on('close', done)
        controller.abort()
      },
    }
  })
  const { code } = await failure(pccsOf(pccs.url), PLATFORM_HERE, NOW, controller.signal)
  assert.equal(code, 'PCCS_ABORTED')
  await closed
  const asked = pccs.seen.length
  const again = await failure(pccsOf(pccs.url), PLATFORM_HERE, NOW, controller.signal)
  assert.equal(again.code, 'PCCS_ABORTED')
  assert.equal(pccs.seen.length, asked)
})

test('what is too large is not read to its end', async (t) => {
  const pccs = await standInPccs(t, good)
  for (const part of ['pckcrl', 'rootcacrl', 'tcb', 'identity'] as const) {
    pccs.odd = {
      [part]: (response: ServerResponse) => {
        const more = () => {
          while (!response.destroyed && response.write('0'.repeat(65_536)));
        }
        response.writeHead(200, good[part].headers)
        response.on('drain', more)
        more()
      },
    }
    assert.equal((await failure(pccsOf(pccs.url))).code, 'PCCS_TOO_LARGE')
  }
})

test('answers about something else, or about nothing', async (t) => {
  const pccs = await standInPccs(t, good)
  const service = pccsOf(pccs.url)
  const wrong = await failure(service, ELSEWHERE)
  assert.equal(wrong.code, 'PCCS_MALFORMED')
  const { fmspc } = PLATFORM_HERE
  assert.ok(wrong.message.endsWith(`: it is about platform ${fmspc}, not platform 00a06f000000`))
  const other = await failure(service, { ...PLATFORM_HERE, ca: 'processor' })
  assert.equal(other.code, 'PCCS_MALFORMED')
  const malformed: Partial<Answers>[] = [
    { tcb: { ...good.tcb, headers: {} } },
    { tcb: { ...good.tcb, headers: { 'TCB-Info-Issuer-Chain': '%E0%A4%A' } } },
    { tcb: { ...good.tcb, body: Buffer.from('<html>') } },
    { tcb: { ...good.tcb, body: Buffer.from([0xff, 0xfe]) } },
    { tcb: { ...good.tcb, body: Buffer.from(`{"tcbInfo":${made.tcb_info}}`) } },
    { identity: { ...good.identity, body: Buffer.alloc(0) } },
    { pckcrl: { ...good.pckcrl, body: good.pckcrl.body.slice(0, 100) } },
    { rootcacrl: { ...good.rootcacrl, body: Buffer.from('not hex') } },
  ]
  for (const change of malformed) {
    pccs.answers = { ...good, ...change }
    assert.equal((await failure(service)).code, 'PCCS_MALFORMED')
  }
})

test('what is not signed by whom we trust, or out of date', async (t) => {
  const strangers = answersOf(collateralOf(maker(NOW), NOW))
  const pccs = await standInPccs(t, good)
  const service = pccsOf(pccs.url)
  for (const part of ['pckcrl', 'rootcacrl', 'tcb', 'identity'] as const) {
    pccs.answers = { ...good, [part]: strangers[part] }
    assert.equal((await failure(service)).code, 'PCCS_UNVERIFIED', part)
  }
  pccs.answers = answersOf(collateralOf(pki, NOW, ELSEWHERE))
  assert.match((await failure(service, ELSEWHERE)).message, /it is not signed by/)
  const stale = answersOf(collateralOf(pki, NOW - 40 * DAY_MS))
  for (const part of ['pckcrl', 'rootcacrl', 'tcb', 'identity'] as const) {
    pccs.answers = { ...good, [part]: stale[part] }
    const { code, message } = await failure(service)
    assert.equal(code, 'PCCS_UNVERIFIED')
    assert.match(message, / ended at 20/)
  }
})

test('nobody in between can change anything that counts', async (t) => {
  const pccs = await standInPccs(t, good)
  const service = pccsOf(pccs.url)
  const parts: readonly Part[] = ['pckcrl', 'rootcacrl', 'tcb', 'identity']
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...parts),
      fc.nat(),
      fc.integer({ min: 1, max: 127 }),
      fc.boolean(),
      async (part, where, mask, inHeader) => {
        const { headers, body } = good[part]
        const changed = Uint8Array.from(body)
        const [name] = Object.keys(headers)
        if (inHeader && name) {
          const text = headers[name] as string
          const at = where % text.length
          const letter = String.fromCharCode(33 + (mask % 94))
          const odd = { [name]: `${text.slice(0, at)}${letter}${text.slice(at + 1)}` }
          pccs.answers = { ...good, [part]: { ...good[part], headers: odd } }
        } else {
          const at = where % changed.length
          changed[at] = (changed[at] as number) ^ mask
          pccs.answers = { ...good, [part]: { ...good[part], body: changed } }
        }
        try {
          assert.deepEqual(signed((await fetched(service)).collateral), signed(expected))
        } catch (error) {
          const { name: kind, code } = error as TrustError
          assert.equal(kind, 'TrustError', String(error))
          assert.ok(code === 'PCCS_MALFORMED' || code === 'PCCS_UNVERIFIED', code)
        }
      },
    ),
    { numRuns: 60 },
  )
})

const authorityFile = (t: TestContext, pem: string): string => {
  const path = join(temporaryFolder(t), 'ca.pem')
  writeFileSync(path, pem)
  return path
}

test('over TLS, only a service with the right certificate is asked', async (t) => {
  const pair = createSelfSigned(['127.0.0.1'], NOW)
  const pccs = await standInPccs(t, good, pair)
  assert.equal((await failure(pccsOf(pccs.url))).code, 'PCCS_UNREACHABLE')
  const other = createSelfSigned(['127.0.0.1'], NOW)
  const wrong = authorityFile(t, other.cert)
  assert.equal(
    (await failure(pccsOf(pccs.url, () => readAuthorities(wrong)))).code,
    'PCCS_UNREACHABLE',
  )
  assert.equal(pccs.seen.length, 0)
  const right = authorityFile(t, pair.cert)
  assert.deepEqual(
    (await fetched(pccsOf(pccs.url, () => readAuthorities(right)))).collateral,
    expected,
  )
  const none = authorityFile(t, 'nothing')
  const { code, message } = await failure(pccsOf(pccs.url, () => readAuthorities(none)))
  assert.equal(code, 'TRUST_SETUP')
  assert.equal(message, `Cannot use "${none}": it holds no certificate in PEM`)
})
