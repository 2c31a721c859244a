import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { test } from 'node:test'
import { decode, encode } from 'cborg'
import fc from 'fast-check'
import { awsNitroRoot } from '../../src/attest/nitro/aws-root.ts'
import { parseDocument } from '../../src/attest/nitro/document.ts'
import { type VerifyDocumentOptions, verifyDocument } from '../../src/attest/nitro/verify.ts'
import { reasonOf } from '../../src/attest/verdict.ts'
import { createIdentity, type Identity, type IdentityFields } from '../../src/simulate/identity.ts'
import { createNitroChain, createNitroRoot, type NitroChain } from '../../src/simulate/nitro-pki.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { keyUsage } from '../../src/x509/issue.ts'
import { readPem } from '../../src/x509/pem.ts'
import {
  genuine,
  genuineDebug,
  genuineLarge,
  makeDocument,
  NOW,
  testRoot,
} from './nitro-evidence.ts'
import { hex, read, readJson, sharedVectors } from './vectors.ts'

const HOUR = 3_600_000
const MADE = Date.parse('2025-12-25T13:15:37.578Z')

/** Judges a document of the tests' own. */
const judge = (document: Uint8Array, options: VerifyDocumentOptions = {}) =>
  verifyDocument(document, { root: testRoot.certificate, at: NOW, ...options })

/** The code of the first failed step, after checking that the verdict agrees with its steps. */
function codeOf(verdict: ReturnType<typeof verifyDocument>): string | undefined {
  const reason = reasonOf(verdict)
  assert.equal(verdict.accepted, reason === undefined)
  assert.ok(
    verdict.steps.every(({ outcome, code }) => (outcome === 'failed') === (code !== undefined)),
  )
  return reason?.code
}

test('the pinned root is the one AWS publishes', () => {
  const der = awsNitroRoot()
  assert.equal(
    createHash('sha256').update(der).digest('hex'),
    '641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b',
  )
  const { subject, notBefore, notAfter, serial } = parseCertificate(der)
  assert.equal(subject.commonName, 'aws.nitro-enclaves')
  assert.equal(new Date(notBefore).toISOString(), '2019-10-28T13:28:05.000Z')
  assert.equal(new Date(notAfter).toISOString(), '2049-10-28T14:28:05.000Z')
  assert.equal(hex(serial), 'f93175681b90afe11d46ccb4e4e7f856')
})

test('a genuine document is accepted at its time, with its claims', () => {
  const reportData = new Uint8Array(64)
  const verdict = verifyDocument(genuine, { at: MADE + 1000, reportData })
  assert.equal(codeOf(verdict), undefined)
  assert.deepEqual(
    verdict.steps.map(({ name, outcome }) => `${name}: ${outcome}`),
    [
      'document format: passed',
      'algorithm: passed',
      'certificate chain: passed',
      'signature: passed',
      'time: passed',
      'debug mode: passed',
      'registers: skipped',
      'report data: passed',
      'nonce: skipped',
    ],
  )
  const { claims } = verdict
  assert.ok(claims)
  assert.equal(claims.moduleId, 'i-0827e799ec9232d44-enc019b55a68bd2ed4b')
  assert.equal(claims.timestamp, MADE)
  assert.equal(claims.digest, 'SHA384')
  assert.equal(claims.debug, false)
  assert.equal(claims.pcrs.size, 16)
  assert.equal(
    hex(claims.image),
    'e0e742bd62280472ea840647754203d599cb39a7966cfed11237c1e86de9c857',
  )
  assert.deepEqual(claims.userData, reportData)
  assert.equal(claims.nonce, undefined)
  assert.equal(claims.publicKey, undefined)
})

test('genuine documents of enclaves under debugging are accepted only where that is allowed', () => {
  for (const document of [genuineDebug, genuineLarge]) {
    assert.equal(codeOf(verifyDocument(document, { at: 'document' })), 'NITRO_DEBUG')
    const verdict = verifyDocument(document, { at: 'document', policy: { allowDebug: true } })
    assert.equal(codeOf(verdict), undefined)
    assert.equal(verdict.claims?.debug, true)
  }
  // Registers that are not there say no more than those that are zero.
  const pcrs = new Map([[3, new Uint8Array(48).fill(1)]])
  const verdict = judge(makeDocument({ pcrs }))
  assert.equal(codeOf(verdict), 'NITRO_DEBUG')
  assert.equal(verdict.claims?.image, undefined)
})

test('a document is good for as long as the verifier says', () => {
  const at = (ms: number, options: VerifyDocumentOptions = {}) =>
    codeOf(judge(makeDocument(), { at: NOW + ms, ...options }))
  assert.equal(at(HOUR), undefined)
  assert.equal(at(HOUR + 1), 'NITRO_TOO_OLD')
  assert.equal(at(HOUR + 1, { maxAgeMs: HOUR + 1 }), undefined)
  assert.equal(at(1001, { maxAgeMs: 1000 }), 'NITRO_TOO_OLD')
  assert.equal(at(0, { maxAgeMs: Number.NaN }), 'NITRO_TOO_OLD')
  const early = (ms: number, options: VerifyDocumentOptions = {}) =>
    codeOf(judge(makeDocument({ timestamp: NOW + ms }), options))
  assert.equal(early(300_000), undefined)
  assert.equal(early(300_001), 'NITRO_FROM_FUTURE')
  assert.equal(early(300_001, { maxFutureMs: 300_001 }), undefined)
  assert.equal(early(1, { maxFutureMs: Number.NaN }), 'NITRO_FROM_FUTURE')
  for (const never of [Number.NaN, Number.POSITIVE_INFINITY, 1e17]) {
    assert.throws(() => at(never), RangeError)
  }
})

test('an archived document is judged at its own time, and the verdict says so', () => {
  const verdict = verifyDocument(genuine, { at: 'document' })
  assert.equal(codeOf(verdict), undefined)
  const step = verdict.steps.find(({ name }) => name === 'time')
  assert.equal(step?.outcome, 'skipped')
  assert.match(step?.detail ?? '', /its own time, 2025-12-25T13:15:37.578Z/)
  // Today its certificates have long expired.
  assert.equal(codeOf(verifyDocument(genuine)), 'CERTIFICATE_EXPIRED')
  // Its own time is no way around them either.
  assert.equal(
    codeOf(judge(makeDocument({ timestamp: NOW + 4 * HOUR }), { at: 'document' })),
    'CERTIFICATE_EXPIRED',
  )
})

test('a replayed document does not carry what this verifier asked for', () => {
  const document = makeDocument({ user_data: Buffer.from('mine'), nonce: Buffer.from('nonce') })
  const expecting = (reportData?: string, nonce?: string) =>
    codeOf(
      judge(document, {
        ...(reportData !== undefined && { reportData: Buffer.from(reportData) }),
        ...(nonce !== undefined && { nonce: Buffer.from(nonce) }),
      }),
    )
  assert.equal(expecting('mine', 'nonce'), undefined)
  assert.equal(expecting('other'), 'REPORT_DATA_MISMATCH')
  assert.equal(expecting('min'), 'REPORT_DATA_MISMATCH')
  assert.equal(expecting(''), 'REPORT_DATA_MISMATCH')
  assert.equal(expecting('mine', 'once'), 'NONCE_MISMATCH')
  const without = makeDocument({ user_data: null, nonce: null })
  const empty = new Uint8Array(0)
  assert.equal(codeOf(judge(without, { reportData: empty })), 'REPORT_DATA_MISMATCH')
  assert.equal(codeOf(judge(without, { nonce: empty })), 'NONCE_MISMATCH')
})

test('registers are compared by index, and one that is missing does not match', () => {
  const expecting = (...pcrs: [number, Uint8Array][]) =>
    judge(makeDocument(), { policy: { pcrs: new Map(pcrs) } })
  const value = (octet: number, length = 48) => new Uint8Array(length).fill(octet)
  assert.equal(codeOf(expecting([0, value(1)], [2, value(3)])), undefined)
  const second = expecting([0, value(1)], [2, value(1)])
  assert.equal(codeOf(second), 'NITRO_PCR_MISMATCH')
  assert.match(reasonOf(second)?.detail ?? '', /PCR2 is 0303.*, expected 0101/)
  assert.equal(codeOf(expecting([0, value(1, 32)])), 'NITRO_PCR_MISMATCH')
  const missing = expecting([8, value(0)])
  assert.equal(codeOf(missing), 'NITRO_PCR_MISMATCH')
  assert.match(reasonOf(missing)?.detail ?? '', /PCR8 is missing/)
})

test('all that policy finds wrong is told at once', () => {
  const nothing = new Uint8Array(1)
  const { steps } = verifyDocument(genuineDebug, {
    at: MADE,
    reportData: nothing,
    nonce: nothing,
    policy: { pcrs: new Map([[0, nothing]]) },
  })
  assert.deepEqual(
    steps.flatMap(({ code }) => code ?? []),
    [
      'CERTIFICATE_EXPIRED',
      'NITRO_TOO_OLD',
      'NITRO_DEBUG',
      'NITRO_PCR_MISMATCH',
      'REPORT_DATA_MISMATCH',
      'NONCE_MISMATCH',
    ],
  )
})

test('a document counts only under its own root', () => {
  assert.equal(codeOf(judge(makeDocument())), undefined)
  assert.equal(codeOf(judge(makeDocument(), { root: awsNitroRoot() })), 'NITRO_ROOT_UNKNOWN')
  const foreign = createNitroRoot(NOW).certificate
  assert.equal(codeOf(judge(makeDocument(), { root: foreign })), 'NITRO_ROOT_UNKNOWN')
  assert.equal(codeOf(judge(genuine, { at: 'document' })), 'NITRO_ROOT_UNKNOWN')
  assert.throws(() => judge(genuine, { root: new Uint8Array(3) }), { name: 'EvidenceError' })
})

test('what is forged with the genuine parts is refused', () => {
  const real = parseDocument(genuine)
  const other = parseDocument(genuineDebug)
  const ours = createNitroChain(testRoot, 'i-1-enc1', real.timestamp)
  const [header, , payload] = decode(genuine) as [Uint8Array, unknown, Uint8Array]
  const at = 'document'
  const aws = (document: Uint8Array) => codeOf(verifyDocument(document, { at }))
  // The signature of one document under the payload of another.
  assert.equal(aws(encode([header, {}, payload, other.message.signature])), 'NITRO_SIGNATURE')
  // AWS's root put before a chain of our own.
  const cabundle = [awsNitroRoot(), ...ours.cabundle.slice(1)]
  const { timestamp } = real
  assert.equal(aws(makeDocument({ timestamp, cabundle }, ours)), 'CERTIFICATE_NOT_ISSUED')
  // The genuine chain, signed with another key.
  const theirs = { timestamp, cabundle: real.cabundle }
  assert.equal(aws(makeDocument({ ...theirs, certificate: real.certificate })), 'NITRO_SIGNATURE')
  // A certificate of our own below the genuine chain.
  assert.equal(aws(makeDocument(theirs, ours)), 'CERTIFICATE_NOT_ISSUED')
  // The genuine enclave's key is no authority for others.
  const below = { ...theirs, cabundle: [...real.cabundle, real.certificate] }
  assert.equal(aws(makeDocument(below, ours)), 'NITRO_CHAIN_RULES')
})

/** A chain of a root and what `recipes` say, each issued by the one before. */
function chainOf(...recipes: Partial<IdentityFields>[]): NitroChain {
  const issued: Identity[] = [testRoot]
  for (const [i, recipe] of recipes.entries()) {
    const ca = i < recipes.length - 1
    const fields: IdentityFields = {
      subject: [['CN', `level ${i}`]],
      curve: 'P-384',
      validFrom: NOW - HOUR,
      validTo: NOW + HOUR,
      ca,
      ...recipe,
    }
    issued.push(createIdentity(fields, issued.at(-1) as Identity))
  }
  const leaf = issued.pop() as Identity
  return { leaf, cabundle: issued.map(({ certificate }) => certificate) }
}

test('every certificate of the chain has to fit its place', () => {
  const verdicts: [code: string | undefined, chain: NitroChain][] = [
    [undefined, chainOf({})],
    [undefined, chainOf({}, {}, {}, {})],
    [undefined, chainOf({ pathLength: 1 }, { pathLength: 0 }, {})],
    ['CERTIFICATE_PATH_TOO_LONG', chainOf({ pathLength: 0 }, {}, {})],
    ['NITRO_CHAIN_RULES', chainOf({}, { ca: true })],
    ['NITRO_CHAIN_RULES', chainOf({}, { ca: false }, {})],
    ['NITRO_CHAIN_RULES', chainOf({ curve: 'P-256' }, {})],
    ['CERTIFICATE_EXPIRED', chainOf({ validTo: NOW - 1000 }, {})],
    ['CERTIFICATE_NOT_YET_VALID', chainOf({}, { validFrom: NOW + 1000 })],
    ['NITRO_SIGNATURE', chainOf({}, { curve: 'P-256' })],
    ['DER_MALFORMED', chainOf({}, { extensions: [keyUsage('digitalSignature')] })],
  ]
  for (const [i, [code, chain]] of verdicts.entries()) {
    assert.equal(codeOf(judge(makeDocument({}, chain))), code, `chain ${i}`)
  }
  const { leaf, cabundle } = chainOf({}, {}, {})
  const reordered = { leaf, cabundle: [cabundle[0], cabundle[2], cabundle[1]] as Uint8Array[] }
  assert.equal(codeOf(judge(makeDocument({}, reordered))), 'CERTIFICATE_NOT_ISSUED')
  const short = { leaf, cabundle: cabundle.slice(0, 2) }
  assert.equal(codeOf(judge(makeDocument({}, short))), 'CERTIFICATE_NOT_ISSUED')
  const garbage = { leaf, cabundle: [testRoot.certificate, new Uint8Array(7)] }
  assert.equal(codeOf(judge(makeDocument({}, garbage))), 'DER_MALFORMED')
})

test('a document that is cut anywhere cannot be read', () => {
  for (let length = 0; length < genuine.length; length++) {
    const verdict = verifyDocument(genuine.subarray(0, length), { at: MADE })
    assert.match(codeOf(verdict) ?? '', /^(CBOR|COSE|NITRO)_[A-Z0-9_]+$/, `at ${length}`)
    assert.equal(verdict.claims, undefined)
  }
})

test('no changed document is ever accepted', () => {
  const change = fc.record({
    at: fc.nat(genuine.length - 1),
    xor: fc.integer({ min: 1, max: 255 }),
  })
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
      const changed = new Uint8Array(genuine)
      for (const { at, xor } of changes) changed[at] = xor ^ (changed[at] ?? 0)
      fc.pre(hex(changed) !== hex(genuine))
      assert.ok(codeOf(verifyDocument(changed, { at: MADE })))
    }),
    { numRuns: 200 },
  )
  fc.assert(
    fc.property(
      fc.nat(genuine.length),
      fc.uint8Array({ minLength: 1, maxLength: 8 }),
      (at, extra) => {
        const longer = Buffer.concat([genuine.subarray(0, at), extra, genuine.subarray(at)])
        assert.ok(codeOf(verifyDocument(longer, { at: MADE })))
      },
    ),
    { numRuns: 100 },
  )
})

test('the longest chain that is read is verified, a longer one is not', () => {
  const longest = chainOf({}, {}, {}, {}, {}, {})
  assert.equal(codeOf(judge(makeDocument({}, longest))), undefined)
  const longer = { ...longest, cabundle: [...longest.cabundle, longest.leaf.certificate] }
  assert.equal(codeOf(judge(makeDocument({}, longer))), 'NITRO_MALFORMED')
})

interface Vector {
  readonly name: string
  readonly file: string
  readonly kind?: string
  readonly at?: string
  readonly expect: { readonly verdict: string; readonly stage?: string; readonly debug?: boolean }
  readonly parsed?: Readonly<Record<string, unknown>> & {
    readonly pcrs: Readonly<Record<string, string>>
  }
}

/** The manifest's stage of a failure, by its code. */
const STAGES: readonly (readonly [string, RegExp])[] = [
  ['syntax', /^(CBOR_|COSE_MALFORMED|NITRO_MALFORMED)/],
  ['alg', /^COSE_(ALGORITHM|CRITICAL)$/],
  ['root', /^NITRO_ROOT_UNKNOWN$/],
  ['chain', /^(CERTIFICATE_NOT_ISSUED|NITRO_ROOT_UNKNOWN)$/],
  ['validity', /^CERTIFICATE_(EXPIRED|NOT_YET_VALID)$/],
  ['ca', /^(NITRO_CHAIN_RULES|CERTIFICATE_PATH_TOO_LONG)$/],
  ['signature', /^NITRO_SIGNATURE$/],
]

function judgeVector(folder: string, root: Uint8Array, { name, file, at, expect, parsed }: Vector) {
  const document = read(folder, file)
  const options = { root, at: at === undefined ? ('document' as const) : Date.parse(at) }
  const verdict = verifyDocument(document, { ...options, policy: { allowDebug: true } })
  const code = codeOf(verdict)
  assert.equal(code === undefined ? 'accept' : 'reject', expect.verdict, `${name}: ${code}`)
  if (expect.stage !== undefined) {
    const stages = STAGES.filter(([, codes]) => codes.test(code ?? '')).map(([stage]) => stage)
    assert.ok(stages.includes(expect.stage), `${name}: ${code} is not of stage ${expect.stage}`)
  }
  if (expect.verdict === 'reject') return
  const debug = expect.debug ?? false
  assert.equal(verdict.claims?.debug, debug, name)
  assert.equal(codeOf(verifyDocument(document, options)), debug ? 'NITRO_DEBUG' : undefined, name)
  if (parsed === undefined) return
  const { claims } = verdict
  assert.ok(claims)
  assert.equal(claims.moduleId, parsed.module_id)
  assert.equal(claims.digest, parsed.digest)
  assert.equal(claims.timestamp, parsed.timestamp)
  const pcrs = Object.fromEntries([...claims.pcrs].map(([index, value]) => [index, hex(value)]))
  assert.deepEqual(pcrs, parsed.pcrs)
  const optional = (value: Uint8Array | undefined) => (value === undefined ? null : hex(value))
  assert.equal(optional(claims.publicKey), parsed.public_key)
  assert.equal(optional(claims.userData), parsed.user_data)
  assert.equal(optional(claims.nonce), parsed.nonce)
}

test('real documents of the vectors get the verdicts and values of their manifest', (t) => {
  const folder = sharedVectors(t, 'nitro')
  if (folder === undefined) return
  const all: readonly Vector[] = readJson(folder, 'manifest.json').vectors
  const documents = all.filter(({ kind }) => kind === 'document')
  assert.equal(documents.length, 6)
  for (const vector of documents) judgeVector(folder, awsNitroRoot(), vector)
})

test('synthetic documents of the vectors get the verdicts of their manifest', (t) => {
  const folder = sharedVectors(t, 'nitro')
  if (folder === undefined) return
  const base = join(folder, 'synthetic')
  const documents: readonly Vector[] = readJson(base, 'manifest.json').vectors
  assert.equal(documents.length, 45)
  const [root] = readPem(Buffer.from(read(base, 'root.pem')).toString(), 'CERTIFICATE', 1)
  assert.ok(root)
  for (const vector of documents) judgeVector(base, root, vector)
})

test('documents that dstack recorded give its values', (t) => {
  const folder = sharedVectors(t, 'dstack')
  if (folder === undefined) return
  const { aws_root_g1_sha256_fingerprint: _, ...expectations } = readJson(
    folder,
    'expected.json',
  ).nsm
  const files = Object.entries<Record<string, unknown>>(expectations)
  assert.equal(files.length, 3)
  for (const [file, { document, ...framed }] of files) {
    const expected = (document ?? framed) as Record<string, unknown>
    const bytes = Buffer.from(read(folder, file))
    const start = bytes.indexOf('8444a1013822', 'hex')
    const verdict = verifyDocument(bytes.subarray(start, start + Number(expected.cose_len)), {
      at: Number(expected.timestamp_ms),
      policy: { allowDebug: true },
    })
    assert.equal(codeOf(verdict), undefined, file)
    const { claims } = verdict
    assert.ok(claims)
    assert.equal(claims.moduleId, expected.module_id)
    assert.equal(claims.debug, expected.pcr012_all_zero)
    assert.equal(hex(claims.image), expected.sha256_pcr0_pcr1_pcr2)
    assert.equal(hex(claims.userData), expected.user_data)
    const nonzero = [...claims.pcrs].filter(([, value]) => value.some((octet) => octet !== 0))
    assert.deepEqual(
      Object.fromEntries(nonzero.map(([index, value]) => [index, hex(value)])),
      expected.nonzero_pcrs,
    )
  }
})
