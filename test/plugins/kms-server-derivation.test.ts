/** What a KMS derives from its root keys, against values computed independently of it. */
import assert from 'node:assert/strict'
import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
} from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { p256Key } from '../../plugins/kms/certificates/p256-key.ts'
import { publicKeyOf } from '../../plugins/kms/derivation/curves.ts'
import { hashedKey, scalarOf } from '../../plugins/kms/derivation/hashed-key.ts'
import {
  appCaScalar,
  appRootKey,
  diskKey,
  envKey,
  envKeyClaim,
  envPublicKey,
  issuedClaim,
  type RootKeys,
} from '../../plugins/kms/derivation/kms-keys.ts'
import { signRecoverable } from '../../plugins/kms/signing/recoverable.ts'
import { lacks } from '../helpers/counterpart.ts'
import { vectors } from '../helpers/vectors.ts'
import { hex, SIMULATOR_ROOT, signerOf, unhex } from './kms-fixtures.ts'

/** Published: the keys of dstack's simulator, taken for the root keys of a KMS. */
const ROOT: RootKeys = {
  version: 0,
  ca: unhex('d4f60214a61f0e651fbf97e4b2da696ac7f898f1aa9f3d1f1282c49c6c7c0a72'),
  k256: unhex(SIMULATOR_ROOT),
}
const APP = unhex('5bb4ff9a3837357f19dc176407a5709c62eb6c56')
const INSTANCE = unhex('1691ed1b47506cad7d08834668691d88246f5b1f')

const spkiOf = (key: KeyObject): Uint8Array =>
  new Uint8Array(createPublicKey(key).export({ type: 'spki', format: 'der' }))

/** Everything there is, for comparison. */
function all(root: RootKeys, appId = APP, instanceId = INSTANCE): string[] {
  const keys = [appCaScalar(root, appId), diskKey(root, appId, instanceId), envKey(root, appId)]
  return [...keys, appRootKey(root, appId)].map(hex)
}

test('root keys of version 0 give the keys that dstack derives', () => {
  // Computed by an independent program; the values of the shared vectors.
  assert.deepEqual(all(ROOT).slice(0, 3), [
    'f12c741994c1839ee2f1b948cad4d62de526f64a82a8e6b101778eb4553fd1d5',
    '914228f048536de6448327b7234aaa94ac5a03d6d5cb60009f9a6f175e976b32',
    '7d821dc9b660209773bb359cf9f6179eac5864e7713057d9fa884d0e2ef2dd68',
  ])
  const hkdf = (secret: Uint8Array, info: Uint8Array) => {
    const extracted = createHmac('sha256', 'RATLS').update(secret).digest()
    return createHmac('sha256', extracted).update(info).update(Uint8Array.of(1)).digest('hex')
  }
  assert.equal(all(ROOT)[3], hkdf(ROOT.k256, Buffer.concat([APP, Buffer.from('app-key')])))
})

describe('shared vectors', () => {
  const folder = vectors('dstack')
  const read = (name: string) => JSON.parse(readFileSync(join(folder ?? '', name), 'utf8'))

  test('every derived value', (t) => {
    if (lacks(t, 'vectors', folder !== undefined)) return
    const { upstream_dh_vector: dh, ...file } = read('keys/kms-derivation.json')
    const root = { ...ROOT, ca: unhex(file.root_ca_scalar) }
    const [appId, instanceId] = [unhex(file.app_id), unhex(file.instance_id)]
    assert.deepEqual(all(root, appId, instanceId).slice(0, 3), [
      file.app_ca_scalar,
      file.disk_crypt_key,
      file.env_crypt_key,
    ])
    const secret = hashedKey(scalarOf(unhex(dh.root_pkcs8_der)), Buffer.from(dh.context.join('')))
    assert.equal(hex(secret), dh.secret)
  })

  test('a signature that a real KMS made over an application’s key', (t) => {
    if (lacks(t, 'vectors', folder !== undefined)) return
    const { simulator } = read('keys/getkey.json')
    const claim = issuedClaim(unhex(simulator.app_id), unhex(simulator.root_public_key))
    const signer = signerOf(unhex(simulator.kms_signature), claim)
    assert.equal(signer, simulator.kms_root_public_key_recovered)
  })
})

test('the scalar of a private key is read, and nothing else passes for one', () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const der = new Uint8Array(privateKey.export({ type: 'pkcs8', format: 'der' }))
  assert.deepEqual(new Uint8Array(p256Key(scalarOf(der)).spki), spkiOf(privateKey))
  const larger = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey
  const tooLong = larger.export({ type: 'pkcs8', format: 'der' })
  assert.throws(() => scalarOf(new Uint8Array(tooLong)), { code: 'DER_MALFORMED' })
  fc.assert(
    fc.property(fc.nat({ max: der.length - 1 }), fc.uint8Array({ maxLength: 40 }), (at, other) => {
      assert.throws(() => scalarOf(der.subarray(0, at)), { name: 'EvidenceError' })
      try {
        assert.equal(scalarOf(other).length, 32)
      } catch (error) {
        assert.equal((error as Error).name, 'EvidenceError')
      }
    }),
  )
})

test('keys differ by what they are for, by id and by version, and by nothing else', () => {
  const other = Uint8Array.from(APP).fill(9, 19)
  const sets = [
    all(ROOT),
    all(ROOT, other),
    all({ ...ROOT, version: 1 }),
    all({ ...ROOT, version: 2 }),
    all({ ...ROOT, version: 256 }),
  ]
  assert.equal(new Set(sets.flat()).size, 20)
  assert.deepEqual(all({ ...ROOT, version: 1 }), all({ ...ROOT, version: 1 }))
  const disks = [INSTANCE, other, new Uint8Array()].map((id) => hex(diskKey(ROOT, APP, id)))
  assert.equal(new Set(disks).size, 3)
})

test('ids of another length are refused: two sets of them could give one context', () => {
  const derivations = [appCaScalar, envKey, envPublicKey, appRootKey]
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (id) => {
      fc.pre(id.length !== 20)
      for (const derive of derivations) assert.throws(() => derive(ROOT, id), RangeError)
      assert.throws(() => diskKey(ROOT, id, INSTANCE), RangeError)
      if (id.length > 0) assert.throws(() => diskKey(ROOT, APP, id), RangeError)
    }),
    { numRuns: 50 },
  )
})

describe('the environment key', () => {
  test('is an X25519 pair of the runtime', () => {
    // RFC 8410 §7 and §4: the runtime's own encodings of the two halves.
    const secret = Buffer.concat([unhex('302e020100300506032b656e04220420'), envKey(ROOT, APP)])
    const privateKey = createPrivateKey({ key: secret, format: 'der', type: 'pkcs8' })
    const spki = Buffer.concat([unhex('302a300506032b656e032100'), envPublicKey(ROOT, APP)])
    const publicKey = createPublicKey({ key: spki, format: 'der', type: 'spki' })
    const peer = generateKeyPairSync('x25519')
    assert.deepEqual(
      diffieHellman({ privateKey, publicKey: peer.publicKey }),
      diffieHellman({ privateKey: peer.privateKey, publicKey }),
    )
  })

  test('is signed for its application, with a time and without', () => {
    const publicKey = envPublicKey(ROOT, APP)
    const root = hex(publicKeyOf('secp256k1', ROOT.k256))
    const text = Buffer.from('dstack-env-encrypt-pubkey:')
    const time = unhex('00000000677a0bb5')
    for (const [claim, bytes] of [
      [envKeyClaim(APP, publicKey), Buffer.concat([text, APP, publicKey])],
      [envKeyClaim(APP, publicKey, 0x677a_0bb5), Buffer.concat([text, APP, time, publicKey])],
    ] as const) {
      assert.deepEqual(Buffer.from(claim), bytes)
      assert.equal(signerOf(signRecoverable(ROOT.k256, claim), bytes), root)
    }
  })
})

test('the application’s root key is vouched for by that of the KMS', () => {
  const publicKey = publicKeyOf('secp256k1', appRootKey(ROOT, APP))
  const claim = Buffer.concat([Buffer.from('dstack-kms-issued:'), APP, publicKey])
  const link = signRecoverable(ROOT.k256, issuedClaim(APP, publicKey))
  assert.equal(signerOf(link, claim), hex(publicKeyOf('secp256k1', ROOT.k256)))
})
