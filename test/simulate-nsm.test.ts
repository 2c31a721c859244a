import assert from 'node:assert/strict'
import { createHash, verify, X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { decode, encode } from 'cborg'
import fc from 'fast-check'
import { createNitroRoot } from '../src/simulate/nitro-pki.ts'
import { NsmEngine } from '../src/simulate/nsm-engine.ts'

const NOW = Date.UTC(2030, 4, 10, 10)
const root = createNitroRoot(NOW)
const engine = () => new NsmEngine(root, { now: () => NOW })

/** Sends a request and reads the answer: `name` or `{name: fields}`. */
function ask(nsm: NsmEngine, request: unknown): unknown {
  return decode(nsm.answer(encode(request)))
}

const error = (code: string) => ({ Error: code })
const hash = (...parts: Uint8Array[]) =>
  parts.reduce((sum, part) => sum.update(part), createHash('sha384')).digest()

/** The payload and the parts of a document, and whether the leaf it carries signed it. */
function open(document: Uint8Array) {
  const [protectedHeader, unprotected, payload, signature] = decode(document)
  const fields: Map<string, unknown> = decode(payload, { useMaps: true })
  const leaf = new X509Certificate(fields.get('certificate') as Uint8Array)
  const signed = encode(['Signature1', protectedHeader, new Uint8Array(0), payload])
  const key = { key: leaf.publicKey, dsaEncoding: 'ieee-p1363' } as const
  const genuine = verify('sha384', signed, key, signature)
  return { protectedHeader, unprotected, payload, fields, leaf, genuine }
}

function attest(nsm: NsmEngine, fields: Record<string, Uint8Array | null> = {}): Uint8Array {
  const answer = ask(nsm, { Attestation: fields }) as { Attestation: { document: Uint8Array } }
  return answer.Attestation.document
}

test('the module describes itself and gives randomness', () => {
  const nsm = engine()
  assert.deepEqual(ask(nsm, 'DescribeNSM'), {
    DescribeNSM: {
      version_major: 1,
      version_minor: 0,
      version_patch: 0,
      module_id: 'i-0123456789abcdef0-enc0123456789abcdef',
      max_pcrs: 32,
      locked_pcrs: Array.from({ length: 16 }, (_, i) => i),
      digest: 'SHA384',
    },
  })
  const random = () => (ask(nsm, 'GetRandom') as { GetRandom: { random: Uint8Array } }).GetRandom
  assert.equal(random().random.byteLength, 256)
  assert.notDeepEqual(random(), random())
})

test('registers extend by hashing, and no more once they are locked', () => {
  const nsm = engine()
  const zero = new Uint8Array(48)
  const abc = Buffer.from('abc')
  const once = hash(zero, abc)
  const extend = (index: number, data: Uint8Array) => ask(nsm, { ExtendPCR: { index, data } })
  assert.deepEqual(extend(16, abc), { ExtendPCR: { data: new Uint8Array(once) } })
  // An empty extension is one too.
  assert.deepEqual(extend(16, new Uint8Array(0)), {
    ExtendPCR: { data: new Uint8Array(hash(once)) },
  })
  assert.deepEqual(ask(nsm, { DescribePCR: { index: 16 } }), {
    DescribePCR: { lock: false, data: new Uint8Array(hash(once)) },
  })
  assert.equal(ask(nsm, { LockPCR: { index: 16 } }), 'LockPCR')
  assert.deepEqual(ask(nsm, { LockPCR: { index: 16 } }), error('ReadOnlyIndex'))
  assert.deepEqual(extend(16, abc), error('ReadOnlyIndex'))
  assert.deepEqual(extend(0, abc), error('ReadOnlyIndex'))
  assert.equal(ask(nsm, { LockPCRs: { range: 32 } }), 'LockPCRs')
  assert.deepEqual(extend(31, abc), error('ReadOnlyIndex'))
})

test('what the module refuses, it refuses by name', () => {
  const nsm = engine()
  const refused: [unknown, string][] = [
    [{ DescribePCR: { index: 32 } }, 'InvalidIndex'],
    [{ DescribePCR: { index: 300 } }, 'InvalidIndex'],
    [{ DescribePCR: { index: 65_536 } }, 'InvalidOperation'],
    [{ DescribePCR: { index: -1 } }, 'InvalidOperation'],
    [{ DescribePCR: { index: 1.5 } }, 'InvalidOperation'],
    [{ DescribePCR: { idx: 0 } }, 'InvalidOperation'],
    [{ DescribePCR: { index: 0, more: 1 } }, 'InvalidOperation'],
    [{ ExtendPCR: { index: 32, data: new Uint8Array(1) } }, 'InvalidIndex'],
    [{ ExtendPCR: { index: 16 } }, 'InvalidOperation'],
    [{ LockPCR: { index: 32 } }, 'InvalidIndex'],
    [{ LockPCRs: { range: 33 } }, 'InvalidIndex'],
    [{ Attestation: { nonce: new Uint8Array(1025) } }, 'InputTooLarge'],
    [{ Attestation: { nonce: 'text' } }, 'InvalidOperation'],
    ['Nope', 'InvalidOperation'],
    ['toString', 'InvalidOperation'],
    ['DescribePCR', 'InvalidOperation'],
    [{ GetRandom: {} }, 'InvalidOperation'],
    [{ DescribePCR: { index: 0 }, LockPCR: { index: 0 } }, 'InvalidOperation'],
    [7, 'InvalidOperation'],
    [[], 'InvalidOperation'],
  ]
  for (const [request, code] of refused) {
    assert.deepEqual(ask(nsm, request), error(code), JSON.stringify(request))
  }
  const raw: [string, string][] = [
    ['ffff', 'not CBOR'],
    ['', 'empty'],
    ['81'.repeat(4096), 'nested 4096 deep'],
    ['a1'.repeat(4096), 'maps nested 4096 deep'],
    ['6b44657363726962654e534d00', 'a byte behind the request'],
    ['a1674c6f636b504352a265696e6465781065696e64657811', 'the same argument twice'],
  ]
  for (const [request, what] of raw) {
    const answer = decode(nsm.answer(Buffer.from(request, 'hex')))
    assert.deepEqual(answer, error('InvalidOperation'), what)
  }
})

test('no request makes the module throw or answer with something else', () => {
  const nsm = engine()
  const known = fc.constantFrom('DescribePCR', 'LockPCR', 'LockPCRs', 'ExtendPCR', 'Attestation')
  const given = fc.dictionary(
    fc.constantFrom('index', 'data', 'range', 'nonce', 'user_data', 'x'),
    fc.oneof(fc.integer(), fc.uint8Array(), fc.string(), fc.constant(null)),
  )
  const request = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc.tuple(known, given).map(([name, fields]) => encode({ [name]: fields })),
  )
  fc.assert(
    fc.property(request, (bytes) => {
      const answer = decode(nsm.answer(bytes))
      assert.ok(typeof answer === 'string' || Object.keys(answer).length === 1)
    }),
  )
})

test('documents carry the locked registers and the fields asked for', () => {
  const nsm = engine()
  const nonce = Buffer.alloc(1024, 1)
  const userData = new Uint8Array(0)
  ask(nsm, { ExtendPCR: { index: 20, data: nonce } })
  ask(nsm, { LockPCR: { index: 20 } })
  const { protectedHeader, unprotected, payload, fields, genuine } = open(
    attest(nsm, { nonce, user_data: userData, public_key: null }),
  )
  assert.ok(genuine)
  assert.equal(Buffer.from(protectedHeader).toString('hex'), 'a1013822')
  assert.deepEqual(unprotected, {})
  // The payload is an indefinite-length map in the order of genuine documents.
  assert.equal(payload[0], 0xbf)
  assert.deepEqual(
    [...fields.keys()],
    'module_id digest timestamp pcrs certificate cabundle public_key user_data nonce'.split(' '),
  )
  assert.equal(fields.get('digest'), 'SHA384')
  assert.equal(fields.get('timestamp'), NOW)
  assert.deepEqual(fields.get('nonce'), new Uint8Array(nonce))
  assert.deepEqual(fields.get('user_data'), userData)
  assert.equal(fields.get('public_key'), null)
  const pcrs = fields.get('pcrs') as Map<number, Uint8Array>
  assert.deepEqual([...pcrs.keys()], [...Array.from({ length: 16 }, (_, i) => i), 20])
  for (const index of [0, 1, 2]) assert.ok(pcrs.get(index)?.some((octet) => octet !== 0))
  for (const item of fields.get('cabundle') as Uint8Array[]) assert.ok(item.byteLength <= 1024)
})

test('the chain leads to the root and is renewed before the enclave certificate ends', () => {
  let now = NOW
  const nsm = new NsmEngine(root, { now: () => now })
  const serials = new Set<string>()
  for (const hours of [0, 1, 2, 3, 30, 1000]) {
    now = NOW + hours * 3600 * 1000
    const { leaf, fields, genuine } = open(attest(nsm))
    assert.ok(genuine)
    const chain = (fields.get('cabundle') as Uint8Array[]).map((der) => new X509Certificate(der))
    assert.ok(chain[0]?.raw.equals(root.certificate))
    const path = [...chain, leaf]
    for (const [i, certificate] of path.entries()) {
      const issuer = path[Math.max(0, i - 1)] as X509Certificate
      assert.ok(certificate.verify(issuer.publicKey), `${certificate.subject}`)
      assert.match(certificate.subject, /O=cvmd simulator\nOU=NOT A REAL TEE/)
      assert.ok(Date.parse(certificate.validFrom) <= now && now < Date.parse(certificate.validTo))
    }
    serials.add(leaf.serialNumber)
  }
  assert.equal(serials.size, 4, 'one serves for half its lifetime')
})
