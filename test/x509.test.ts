import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { EvidenceError } from '../src/attest/evidence-error.ts'
import { isIssuedBy, parseCertificate } from '../src/x509/certificate.ts'
import { isCrlIssuedBy, isRevoked, parseCrl } from '../src/x509/crl.ts'
import { DerReader } from '../src/x509/der-read.ts'
import {
  bitString,
  type Der,
  element,
  explicit,
  integer,
  oid,
  sequence,
  time,
} from '../src/x509/der-write.ts'
import {
  basicConstraints,
  certificatePem,
  extension,
  issueCrl,
  keyUsage,
} from '../src/x509/issue.ts'
import { nameOf, verifyPath } from '../src/x509/path.ts'
import { parsePemChain } from '../src/x509/pem.ts'
import { certify, type Recipe } from './helpers/certificates.ts'

const fixture = (name: string) =>
  new Uint8Array(readFileSync(new URL(`./fixtures/tdx/${name}`, import.meta.url)))
const INTEL_ROOT = fixture('intel-sgx-root-ca.der')
const NOW = Date.UTC(2030, 0)

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const LEAF = { name: 'leaf', extensions: [basicConstraints(false)] }
const UNKNOWN = sequence(oid('1.2.3'))

function code(act: () => unknown): string {
  try {
    act()
  } catch (error) {
    if (!(error instanceof EvidenceError)) throw error
    return error.code
  }
  return 'none'
}

/** The bytes with one of them changed. */
function flip(bytes: Uint8Array, at: number, mask = 1): Uint8Array {
  const changed = bytes.slice()
  changed[at] = (changed[at] ?? 0) ^ mask
  return changed
}

test('the Intel SGX Root CA is read as its publisher describes it', () => {
  const root = parseCertificate(INTEL_ROOT)
  assert.equal(root.subject.commonName, 'Intel SGX Root CA')
  assert.equal(hex(root.subject.der), hex(root.issuer.der))
  assert.equal(hex(root.serial).toUpperCase(), '22650CD65A9D3489F383B49552BF501B392706AC')
  assert.equal(new Date(root.notBefore).toISOString(), '2018-05-21T10:45:10.000Z')
  assert.equal(new Date(root.notAfter).toISOString(), '2049-12-31T23:59:59.000Z')
  assert.equal(
    createHash('sha256').update(root.spki).digest('hex'),
    'a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e',
  )
  assert.deepEqual([root.curve, root.hash], ['P-256', 'sha256'])
  assert.deepEqual([root.isCa, root.pathLength, root.basicConstraintsCritical], [true, 1, true])
  assert.deepEqual([...(root.keyUsage ?? [])], ['keyCertSign', 'cRLSign'])
  assert.deepEqual(root.unknownCritical, [])
  assert.ok(root.extension('2.5.29.14'))
  assert.equal(root.extension('1.2.3'), undefined)
  assert.ok(isIssuedBy(root, root))
})

test('a name or a key that differs is no issuer', () => {
  const root = certify()
  const sameName = parseCertificate(certify().der)
  const otherName = parseCertificate(certify({ name: 'other' }).der)
  const child = parseCertificate(certify({ ...LEAF, issuer: root }).der)
  assert.ok(isIssuedBy(child, parseCertificate(root.der)))
  assert.ok(!isIssuedBy(child, sameName))
  assert.ok(!isIssuedBy(child, otherName))
})

test('what a certificate must not contain', () => {
  const { der } = certify()
  const algorithm = Buffer.from(der).indexOf(oid('1.2.840.10045.4.3.2'))
  // SHA-384 inside the signed part, SHA-256 outside.
  assert.equal(
    code(() => parseCertificate(flip(der, algorithm + 9))),
    'DER_MALFORMED',
  )
  const one = extension('1.2.3', false, UNKNOWN)
  assert.equal(
    code(() => parseCertificate(certify({ extensions: [one, one] }).der)),
    'DER_MALFORMED',
  )
  assert.equal(
    code(() => parseCertificate(Buffer.concat([der, Buffer.of(0)]))),
    'DER_MALFORMED',
  )
  assert.equal(
    code(() => parseCertificate(new Uint8Array(17_000))),
    'CERTIFICATE_TOO_LONG',
  )
})

test('a path holds only with every link, date and constraint in order', () => {
  const root = certify({ extensions: [basicConstraints(true, 1)] })
  const anchor = parseCertificate(root.der)
  const path = (middle: Recipe, leaf: Recipe = {}, at = NOW): string => {
    const authority = certify({ name: 'middle', issuer: root, ...middle })
    const last = certify({ ...LEAF, issuer: authority, ...leaf })
    const chain = [parseCertificate(last.der), parseCertificate(authority.der)]
    return code(() => verifyPath(chain, anchor, at))
  }
  const mayIssue = basicConstraints(true, 0)
  assert.equal(path({ extensions: [mayIssue, keyUsage('keyCertSign')] }), 'none')
  assert.equal(path({ extensions: [] }), 'CERTIFICATE_NOT_CA')
  assert.equal(path({ extensions: [basicConstraints(false)] }), 'CERTIFICATE_NOT_CA')
  assert.equal(path({ extensions: [mayIssue, keyUsage('cRLSign')] }), 'CERTIFICATE_KEY_USAGE')
  assert.equal(path({ issuer: certify() }), 'CERTIFICATE_NOT_ISSUED')
  assert.equal(path({}, { issuer: certify({ name: 'middle' }) }), 'CERTIFICATE_NOT_ISSUED')
  assert.equal(path({ to: NOW - 1000 }), 'CERTIFICATE_EXPIRED')
  assert.equal(path({}, { to: NOW }), 'none')
  assert.equal(path({}, { from: NOW + 1000 }), 'CERTIFICATE_NOT_YET_VALID')
  assert.equal(path({}, {}, Date.UTC(2070, 0)), 'CERTIFICATE_EXPIRED')
  const critical = extension('1.2.3', true, UNKNOWN)
  assert.equal(path({ extensions: [mayIssue, critical] }), 'CERTIFICATE_CRITICAL_EXTENSION')
  assert.equal(path({}, { extensions: [critical] }), 'CERTIFICATE_CRITICAL_EXTENSION')
})

test('messages quote names without what a terminal would obey', () => {
  const stranger = parseCertificate(certify({ name: `\u001b[2J\u009b31m${'x'.repeat(200)}` }).der)
  assert.equal(nameOf(stranger), `"?[2J?31m${'x'.repeat(56)}"`)
})

test('one authority too many below another is refused', () => {
  const root = certify({ extensions: [basicConstraints(true, 0)] })
  const middle = certify({ name: 'middle', issuer: root })
  const leaf = certify({ ...LEAF, issuer: middle })
  const chain = [leaf, middle].map(({ der }) => parseCertificate(der))
  const anchor = parseCertificate(root.der)
  assert.equal(
    code(() => verifyPath(chain, anchor, NOW)),
    'CERTIFICATE_PATH_TOO_LONG',
  )
})

test('PEM: blocks in order, text between them ignored, damage named', () => {
  const [root, other] = [certify(), certify({ name: 'other' })]
  const pem = certificatePem(root.der)
  const text = `subject: root\n${pem}\r\n# next\n${certificatePem(other.der)}\0`
  const names = parsePemChain(text).map(({ subject }) => subject.commonName)
  assert.deepEqual(names, ['test root', 'other'])
  assert.equal(
    code(() => parsePemChain('')),
    'PEM_MALFORMED',
  )
  assert.equal(
    code(() => parsePemChain(pem.slice(0, -40))),
    'PEM_MALFORMED',
  )
  assert.equal(
    code(() => parsePemChain(pem.replace('\nM', '\n!M'))),
    'PEM_MALFORMED',
  )
  assert.equal(
    code(() => parsePemChain(pem.repeat(11))),
    'PEM_MALFORMED',
  )
  assert.equal(
    code(() => parsePemChain(text, 1)),
    'PEM_MALFORMED',
  )
  assert.equal(
    code(() => parsePemChain('A'.repeat(400_000))),
    'PEM_TOO_LONG',
  )
})

test('a revocation list names exactly what it was made with', () => {
  const issuer = certify()
  const authority = parseCertificate(issuer.der)
  const revoked = [Uint8Array.of(1), Uint8Array.of(0x80, 0)]
  const fields = { issuer: issuer.subject, thisUpdate: NOW, nextUpdate: NOW + 1000, number: 1 }
  const list = (more: object) => issueCrl({ ...fields, ...more }, issuer.privateKey)
  const crl = parseCrl(list({ revoked }))
  assert.deepEqual([crl.thisUpdate, crl.nextUpdate], [NOW, NOW + 1000])
  assert.deepEqual([...crl.revoked], ['01', '8000'])
  assert.ok(isRevoked(crl, Uint8Array.of(0x80, 0)))
  assert.ok(!isRevoked(crl, Uint8Array.of(2)))
  assert.ok(isCrlIssuedBy(crl, authority))
  assert.ok(!isCrlIssuedBy(crl, parseCertificate(certify().der)))
  assert.ok(!isCrlIssuedBy(parseCrl(list({ issuer: [['CN', 'other']] })), authority))
  assert.equal(parseCrl(list({})).revoked.size, 0)
})

test("Intel's revocation lists are read and belong to their authorities", () => {
  const root = parseCertificate(INTEL_ROOT)
  const crl = parseCrl(fixture('gtg-pckcrl.der'))
  assert.equal(crl.issuer.commonName, 'Intel SGX PCK Platform CA')
  assert.equal(crl.revoked.size, 44)
  assert.ok(!isCrlIssuedBy(crl, root))
  const ofRoot = fixture('gtg-rootcrl.der')
  assert.ok(isCrlIssuedBy(parseCrl(ofRoot), root))
  assert.equal(
    code(() => parseCrl(new Uint8Array(300_000))),
    'CRL_TOO_LONG',
  )
  for (let length = 0; length < ofRoot.length; length++) {
    assert.equal(
      code(() => parseCrl(ofRoot.subarray(0, length))),
      'DER_MALFORMED',
    )
  }
})

test('lists whose meaning depends on a critical extension are refused', () => {
  const algorithm = sequence(oid('1.2.840.10045.4.3.2'))
  const list = (entries: readonly Der[], ...extensions: readonly Der[]) => {
    const revoked = entries.length > 0 ? [sequence(...entries)] : []
    const lists = extensions.length > 0 ? [explicit(0, sequence(...extensions))] : []
    const head = [integer(Uint8Array.of(1)), algorithm, sequence(), time(NOW), time(NOW)]
    const body = sequence(...head, ...revoked, ...lists)
    return code(() => parseCrl(sequence(body, algorithm, bitString(new Uint8Array(8)))))
  }
  const entry = (...extensions: readonly Der[]) =>
    sequence(integer(Uint8Array.of(7)), time(NOW), sequence(...extensions))
  assert.equal(list([]), 'none')
  assert.equal(list([entry()], extension('2.5.29.20', true, UNKNOWN)), 'none')
  // RFC 5280 §5.2.4, §5.2.5: a delta list, and one that covers only some certificates.
  for (const id of ['2.5.29.27', '2.5.29.28']) {
    assert.equal(list([], extension(id, false, UNKNOWN)), 'none')
    assert.equal(list([], extension(id, true, UNKNOWN)), 'CRL_UNSUPPORTED')
  }
  // RFC 5280 §5.3: the reason code, and a certificate of another issuer.
  assert.equal(list([entry(extension('2.5.29.21', false, UNKNOWN))]), 'none')
  assert.equal(list([entry(extension('2.5.29.29', true, UNKNOWN))]), 'CRL_UNSUPPORTED')
})

test('DER that is not in its shortest form is refused', () => {
  const read = (...bytes: number[]) => code(() => new DerReader(Uint8Array.from(bytes), 'x').read())
  assert.equal(read(0x04, 0x01, 0xaa), 'none')
  assert.equal(read(0x04, 0x81, 0x01, 0xaa), 'DER_MALFORMED')
  assert.equal(read(0x04, 0x80, 0xaa, 0, 0), 'DER_MALFORMED')
  assert.equal(read(0x04, 0x85, 0, 0, 0, 0, 1, 0xaa), 'DER_MALFORMED')
  assert.equal(read(0x04, 0x84, 0xff, 0xff, 0xff, 0xff), 'DER_MALFORMED')
  assert.equal(read(0x1f, 0x81, 0x01, 0x00), 'DER_MALFORMED')
  const unsigned = (...content: number[]) =>
    code(() => new DerReader(element(2, Uint8Array.from(content)), 'x').unsigned())
  assert.equal(unsigned(0), 'none')
  assert.equal(unsigned(0, 0x80), 'none')
  for (const content of [[], [0x80], [0, 0x7f]]) assert.equal(unsigned(...content), 'DER_MALFORMED')
})

test('object identifiers and times come back as they were written', () => {
  const arc = fc.nat(2 ** 31)
  fc.assert(
    fc.property(fc.nat(2), fc.nat(39), fc.array(arc, { maxLength: 6 }), (first, second, rest) => {
      const text = [first, second, ...rest].join('.')
      assert.equal(new DerReader(oid(text), 'x').oid(), text)
    }),
  )
  const reader = (tag: number, text: string) => new DerReader(element(tag, Buffer.from(text)), 'x')
  assert.equal(reader(0x17, '491231235959Z').time(), Date.UTC(2049, 11, 31, 23, 59, 59))
  assert.equal(reader(0x17, '500101000000Z').time(), Date.UTC(1950, 0))
  assert.equal(reader(0x18, '20500101000000Z').time(), Date.UTC(2050, 0))
  for (const text of ['490230000000Z', '4912312359Z', '491231235959+0100', '491231245959Z']) {
    assert.equal(
      code(() => reader(0x17, text).time()),
      'DER_MALFORMED',
      text,
    )
  }
})

test('every prefix of a certificate is refused with a typed error', () => {
  for (let length = 0; length < INTEL_ROOT.length; length++) {
    assert.equal(
      code(() => parseCertificate(INTEL_ROOT.subarray(0, length))),
      'DER_MALFORMED',
    )
  }
})

test('no change of one byte keeps a certificate issued', () => {
  const root = parseCertificate(INTEL_ROOT)
  const position = fc.nat(INTEL_ROOT.length - 1)
  fc.assert(
    fc.property(position, fc.integer({ min: 1, max: 255 }), (at, mask) => {
      const changed = flip(INTEL_ROOT, at, mask)
      const refused = code(() => assert.ok(!isIssuedBy(parseCertificate(changed), root)))
      assert.match(refused, /^(none|DER_MALFORMED|KEY_UNUSABLE)$/)
    }),
    { numRuns: 400 },
  )
})

test('bytes at random never throw an untyped error', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      assert.notEqual(
        code(() => parseCertificate(bytes)),
        'none',
      )
      assert.notEqual(
        code(() => parseCrl(bytes)),
        'none',
      )
    }),
  )
})
