import assert from 'node:assert/strict'
import { createHash, createPublicKey, randomBytes, verify, X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { parseCollateral } from '../src/attest/tdx/collateral.ts'
import { verifyQuote } from '../src/attest/tdx/verify.ts'
import { reasonOf } from '../src/attest/verdict.ts'
import { createCollateral } from '../src/simulate/tdx-collateral.ts'
import { createTdxPki } from '../src/simulate/tdx-pki.ts'
import { createQuotingEnclave } from '../src/simulate/tdx-quote.ts'
import { TrustDomain } from '../src/simulate/trust-domain.ts'

const NOW = Date.UTC(2030, 4, 10, 10)
const pki = createTdxPki(NOW)
const sign = createQuotingEnclave(pki)
const hash = (algorithm: string, ...parts: Uint8Array[]) =>
  parts.reduce((sum, part) => sum.update(part), createHash(algorithm)).digest()

test('a TDREPORT binds the report data, the registers and the platform', () => {
  const domain = new TrustDomain({ mrConfigId: Buffer.alloc(48, 7) })
  const digest = randomBytes(48)
  domain.extend(3, digest)
  const reportData = randomBytes(64)
  const report = domain.report(reportData)
  const at = (offset: number, length: number) =>
    Buffer.from(report.subarray(offset, offset + length))
  assert.equal(report.byteLength, 1024)
  assert.equal(report[0], 0x81)
  assert.deepEqual(at(32, 48), hash('sha384', at(256, 239)))
  assert.deepEqual(at(80, 48), hash('sha384', at(512, 512)))
  assert.deepEqual(at(128, 64), reportData)
  assert.deepEqual(at(528, 48), hash('sha384', Buffer.from('cvmd simulator mrtd')))
  assert.deepEqual(at(576, 48), Buffer.alloc(48, 7))
  assert.deepEqual(at(864, 48), hash('sha384', Buffer.alloc(48), digest))
  assert.ok(at(720, 3 * 48).equals(Buffer.alloc(3 * 48)))
  // The same report has the same MAC, another report or machine another one.
  assert.deepEqual(domain.report(reportData), report)
  const mac = (bytes: Uint8Array) => Buffer.from(bytes.subarray(224, 256)).toString('hex')
  assert.notEqual(mac(domain.report(randomBytes(64))), mac(report))
  assert.notEqual(
    mac(new TrustDomain().report(reportData)),
    mac(new TrustDomain().report(reportData)),
  )
})

for (const version of [4, 5] as const) {
  test(`a quote of version ${version} is signed all the way up to the simulator's root`, () => {
    const domain = new TrustDomain()
    const reportData = randomBytes(64)
    const report = domain.report(reportData)
    const quote = Buffer.from(sign(report, version))
    const body = version === 4 ? 48 : 54
    const bodyEnd = body + (version === 4 ? 584 : 648)
    assert.equal(quote.readUInt16LE(0), version)
    assert.equal(quote.readUInt32LE(4), 0x81)
    if (version === 5) assert.deepEqual([quote.readUInt16LE(48), quote.readUInt32LE(50)], [3, 648])
    assert.deepEqual(quote.subarray(body + 520, body + 584), reportData)
    assert.deepEqual(quote.subarray(body + 136, body + 184), Buffer.from(domain.mrtd))
    assert.equal(bodyEnd + 4 + quote.readUInt32LE(bodyEnd), quote.byteLength)

    const signature = quote.subarray(bodyEnd + 4)
    const point = signature.subarray(64, 128)
    const coordinate = (from: number) => point.subarray(from, from + 32).toString('base64url')
    const jwk = { kty: 'EC', crv: 'P-256', x: coordinate(0), y: coordinate(32) }
    const attestationKey = createPublicKey({ key: jwk, format: 'jwk' })
    const raw = { dsaEncoding: 'ieee-p1363' } as const
    const signs = (key: typeof attestationKey, data: Uint8Array, bytes: Uint8Array) =>
      verify('sha256', data, { key, ...raw }, bytes)
    assert.ok(signs(attestationKey, quote.subarray(0, bodyEnd), signature.subarray(0, 64)))

    assert.equal(signature.readUInt16LE(128), 6)
    assert.equal(134 + signature.readUInt32LE(130), signature.byteLength)
    const qeReport = signature.subarray(134, 518)
    const authentication = signature.subarray(584, 584 + signature.readUInt16LE(582))
    const bound = Buffer.concat([hash('sha256', point, authentication), Buffer.alloc(32)])
    assert.deepEqual(qeReport.subarray(320), bound)

    const inner = signature.subarray(584 + authentication.byteLength)
    assert.equal(inner.readUInt16LE(0), 5)
    assert.equal(6 + inner.readUInt32LE(2), inner.byteLength)
    assert.equal(inner.at(-1), 0)
    const chain = inner
      .subarray(6, -1)
      .toString()
      .split(/(?<=-----END CERTIFICATE-----\n)/)
    const [leaf, platform, root, ...more] = chain.map((pem) => new X509Certificate(pem))
    assert.ok(leaf && platform && root && more.length === 0)
    assert.ok(signs(leaf.publicKey, qeReport, signature.subarray(518, 582)))
    assert.ok(leaf.verify(platform.publicKey) && platform.verify(root.publicKey))
    assert.ok(root.verify(root.publicKey) && root.raw.equals(pki.root.certificate))
    for (const { subject } of [leaf, platform, root]) {
      assert.match(subject, /^O=cvmd simulator\nOU=NOT A REAL TEE\nCN=Intel SGX /)
    }
  })
}

for (const version of [4, 5] as const) {
  test(`the verifier accepts version ${version} with the collateral made for it`, () => {
    const domain = new TrustDomain()
    const reportData = randomBytes(64)
    const quote = sign(domain.report(reportData), version)
    const collateral = parseCollateral(JSON.stringify(createCollateral(pki, NOW)))
    const options = { root: pki.root.certificate, collateral, at: NOW, reportData }
    const verdict = verifyQuote(quote, options)
    assert.equal(reasonOf(verdict), undefined)
    assert.ok(verdict.accepted)
    for (const offset of [100, 700, quote.byteLength - 2000]) {
      const altered = Uint8Array.from(quote)
      altered[offset] = (altered[offset] ?? 0) ^ 1
      assert.equal(verifyQuote(altered, options).accepted, false, `bit at ${offset}`)
    }
  })
}

test('a report of another length is refused', () => {
  for (const length of [0, 1023, 1025]) {
    assert.throws(() => sign(new Uint8Array(length)), /^RangeError: Cannot sign TDREPORT: /)
  }
})
