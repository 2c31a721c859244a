import assert from 'node:assert/strict'
import { createHash, createPublicKey, hkdfSync, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { p256 } from '@noble/curves/nist'
import fc from 'fast-check'
import { Keyring } from '../../plugins/kms/agent/keyring.ts'
import { p256Key } from '../../plugins/kms/certificates/p256-key.ts'
import { claimV0, claimV1, keyV0, keyV1 } from '../../plugins/kms/derivation/app-keys.ts'
import { type Algorithm, publicKeyOf } from '../../plugins/kms/derivation/curves.ts'
import { hkdf32 } from '../../plugins/kms/derivation/hkdf.ts'
import { expandSeed } from '../../plugins/kms/derivation/sealing-seed.ts'
import { signData, verifyData } from '../../plugins/kms/signing/messages.ts'
import { signRecoverable } from '../../plugins/kms/signing/recoverable.ts'
import { lacks } from '../helpers/counterpart.ts'
import { vectors } from '../helpers/vectors.ts'
import { unhex as bytes, hex, SIMULATOR_KEYS, SIMULATOR_ROOT, signerOf } from './kms-fixtures.ts'

test('keys of version 0 are those of the dstack simulator', () => {
  for (const [path, key] of Object.entries(SIMULATOR_KEYS)) {
    assert.equal(hex(keyV0(bytes(SIMULATOR_ROOT), path)), key)
  }
})

test('HKDF is that of the runtime, and goes on where the runtime gives up', () => {
  const any = fc.uint8Array({ maxLength: 200 })
  fc.assert(
    fc.property(any, any, fc.string({ maxLength: 40 }), (secret, info, salt) => {
      const expected = hkdfSync('sha256', secret, salt, info, 32)
      assert.equal(hex(hkdf32(salt, secret, info)), hex(new Uint8Array(expected)))
    }),
    { numRuns: 100 },
  )
  const root = bytes(SIMULATOR_ROOT)
  const long = new Set([1024, 1025, 100_000].map((n) => hex(keyV0(root, 'x'.repeat(n)))))
  assert.equal(long.size, 3)
})

test('a P-256 key is the same in DER, PEM and as a public key', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (scalar) => {
      fc.pre(p256.utils.isValidPrivateKey(scalar))
      const key = p256Key(scalar)
      const der = Buffer.from(key.pem.replace(/-----.*-----|\n/g, ''), 'base64')
      assert.equal(der.length, 138)
      assert.equal(key.pem.split('\n')[0], '-----BEGIN PRIVATE KEY-----')
      const spki = createPublicKey(key.privateKey).export({ type: 'spki', format: 'der' })
      assert.equal(hex(spki), hex(key.spki))
    }),
    { numRuns: 20 },
  )
  for (const scalar of [new Uint8Array(32), new Uint8Array(32).fill(0xff)]) {
    assert.throws(() => p256Key(scalar))
  }
})

test('a sealing seed always gives the same keys, and different ones', () => {
  const one = expandSeed(new Uint8Array(32).fill(1))
  const again = expandSeed(new Uint8Array(32).fill(1))
  const other = expandSeed(new Uint8Array(32).fill(2))
  assert.deepEqual(one, again)
  const all = [one.root, one.authority, other.root, other.authority].map(hex)
  assert.equal(new Set(all).size, 4)
})

test('keys in memory are overwritten when others take their place, and at the end', () => {
  const root = bytes(SIMULATOR_ROOT)
  const authority = { kind: 'kms', url: '' } as const
  const source = { from: 'here', root, rootSignature: new Uint8Array(), authority }
  const keyring = new Keyring(source, undefined, 2)
  const isGone = ({ secret }: { secret: Uint8Array }) => secret.every((byte) => byte === 0)
  const [a, b] = [keyring.v0('a', '', 'ed25519'), keyring.v1('b', 'ed25519')]
  assert.equal(keyring.v0('a', '', 'ed25519'), a, 'kept')
  const c = keyring.v0('c', '', 'ed25519')
  assert.deepEqual([a, b, c].map(isGone), [false, true, false])
  const long = keyring.v0('x'.repeat(600), '', 'ed25519')
  assert.notEqual(keyring.v0('x'.repeat(600), '', 'ed25519'), long, 'too long to be kept')
  keyring.clear()
  assert.deepEqual([a, b, c].map(isGone), [true, true, true])
  assert.ok(root.every((byte) => byte === 0))
})

describe('signatures', () => {
  const key = keyV0(bytes(SIMULATOR_ROOT), 'vms')
  const data = Buffer.from('signed')
  const digest = createHash('sha256').update(data).digest()

  test('verify, and no other ones do', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 100 }),
        fc.constantFrom('secp256k1' as const, 'ed25519' as const),
        fc.nat({ max: 63 }),
        (message, algorithm, at) => {
          const publicKey = publicKeyOf(algorithm, key)
          const signature = signData(algorithm, key, message)
          assert.equal(signature.length, 64)
          assert.ok(verifyData(algorithm, publicKey, message, signature))
          assert.ok(!verifyData(algorithm, publicKey, Buffer.from([...message, 0]), signature))
          const changed = Uint8Array.from(signature)
          changed[at] = (changed[at] ?? 0) ^ 1
          let accepted = false
          try {
            accepted = verifyData(algorithm, publicKey, message, changed)
          } catch (error) {
            assert.equal((error as { code: string }).code, 'SIGNATURE_MALFORMED')
          }
          assert.equal(accepted, false)
        },
      ),
      { numRuns: 40 },
    )
  })

  test('over data and over their digest are the same', () => {
    const signature = signData('secp256k1', key, data)
    assert.equal(hex(signData('secp256k1_prehashed', key, digest)), hex(signature))
    const publicKey = publicKeyOf('secp256k1', key)
    assert.ok(verifyData('secp256k1_prehashed', publicKey, digest, signature))
    for (const length of [0, 31, 33]) {
      const message = `a 32-byte digest, but received ${length} bytes`
      const wrong = new Uint8Array(length)
      for (const work of [
        () => signData('secp256k1_prehashed', key, wrong),
        () => verifyData('secp256k1_prehashed', publicKey, wrong, signature),
      ]) {
        assert.throws(work, (error: Error) => error.message.endsWith(message))
      }
    }
  })

  test('of a wrong form, and keys of a wrong form, are the caller’s mistake', () => {
    const code = (expected: string) => (error: unknown) =>
      (error as { code: string; status: number }).code === expected &&
      (error as { status: number }).status === 400
    for (const algorithm of ['secp256k1', 'ed25519'] as const) {
      const publicKey = publicKeyOf(algorithm, key)
      const good = signData(algorithm, key, data)
      for (const bad of [good.subarray(0, 63), Buffer.concat([good, good]), new Uint8Array()]) {
        assert.throws(
          () => verifyData(algorithm, publicKey, data, bad),
          code('SIGNATURE_MALFORMED'),
        )
      }
      for (const bad of [publicKey.subarray(1), new Uint8Array(), new Uint8Array(33).fill(0xff)]) {
        assert.throws(() => verifyData(algorithm, bad, data, good), code('PUBLIC_KEY_MALFORMED'))
      }
    }
  })
})

interface GetKeyRow {
  readonly path: string
  readonly purpose: string
  readonly domain: string
  readonly domain_hex?: string
  readonly algorithm: Algorithm
  readonly key: string
  readonly public_key: string
  readonly signature_chain_0: string
}

interface GetKeyRoot {
  readonly root_key: string
  readonly root_public_key: string
  readonly v0: readonly GetKeyRow[]
  readonly v1?: readonly GetKeyRow[]
}

describe('shared vectors', () => {
  const folder = vectors('dstack')
  const read = (name: string) => JSON.parse(readFileSync(join(folder ?? '', name), 'utf8'))

  test('GetKey, both versions', (t) => {
    if (lacks(t, 'vectors', folder !== undefined)) return
    const file = read('keys/getkey.json')
    let rows = 0
    for (const { root_key, root_public_key, v0, v1 = [] } of [
      file.test_root,
      file.simulator,
    ] as readonly GetKeyRoot[]) {
      const root = bytes(root_key)
      assert.equal(hex(publicKeyOf('secp256k1', root)), root_public_key)
      const made = [
        ...v0.map((row) => {
          const key = keyV0(root, row.path)
          const publicKey = publicKeyOf(row.algorithm, key)
          return { row, key, publicKey, claim: claimV0(row.purpose, publicKey) }
        }),
        ...v1.map((row) => {
          const key = keyV1(root, row.domain, row.algorithm)
          const publicKey = publicKeyOf(row.algorithm, key)
          return { row, key, publicKey, claim: claimV1(row.domain, row.algorithm, publicKey) }
        }),
      ]
      for (const { row, key, publicKey, claim } of made) {
        rows += 1
        assert.equal(hex(key), row.key)
        assert.equal(hex(publicKey), row.public_key)
        assert.equal(hex(signRecoverable(root, claim)), row.signature_chain_0)
        assert.equal(signerOf(bytes(row.signature_chain_0), claim), root_public_key)
      }
    }
    assert.equal(rows, 24)
  })

  test('signature chains, and what must not verify', (t) => {
    if (lacks(t, 'vectors', folder !== undefined)) return
    const file = read('keys/signature_chain.json')
    for (const { algorithm, data, public_key, signature, signature_chain: chain } of file.cases) {
      const [publicKey, signed] = [bytes(public_key), bytes(signature)]
      assert.ok(verifyData(algorithm, publicKey, bytes(data), signed))
      assert.equal(chain[0], signature)
      const claim = claimV0(file.purpose, publicKey)
      assert.equal(signerOf(bytes(chain[1]), claim), file.app_root_pubkey)
      const issued = Buffer.concat([
        Buffer.from('dstack-kms-issued:'),
        bytes(file.app_id),
        bytes(file.app_root_pubkey),
      ])
      assert.equal(signerOf(bytes(chain[2]), issued), file.kms_root_pubkey)
    }
    for (const { algorithm, data, public_key, signature } of file.invalid_cases) {
      assert.equal(verifyData(algorithm, bytes(public_key), bytes(data), bytes(signature)), false)
    }
  })

  test('P-256 keys and the encoding that further keys are made of', (t) => {
    if (lacks(t, 'vectors', folder !== undefined)) return
    const file = read('keys/kms-derivation.json')
    const root = bytes(file.root_ca_scalar)
    const derived = (...context: readonly Uint8Array[]) =>
      hkdf32('RATLS', root, Buffer.concat(context))
    const secretOf = (scalar: Uint8Array) => {
      const der = Buffer.from(p256Key(scalar).pem.replace(/-----.*-----|\n/g, ''), 'base64')
      return createHash('sha256').update(der).digest('hex')
    }
    const [app, instance] = [bytes(file.app_id), bytes(file.instance_id)]
    const text = (value: string) => new Uint8Array(Buffer.from(value))
    const disk = derived(app, instance, text('app-disk-crypt-key'))
    assert.equal(secretOf(disk), file.disk_crypt_key)
    assert.equal(secretOf(derived(app, text('env-encrypt-key'))), file.env_crypt_key)
    assert.equal(hex(derived(app, text('app-ca'))), file.app_ca_scalar)
    // The root key of the vector stands at offset 36 of its PKCS #8 form.
    const { root_pkcs8_der, context, secret } = file.upstream_dh_vector
    const scalar = bytes(root_pkcs8_der).subarray(36, 68)
    const shared = hkdf32('RATLS', scalar, Buffer.from(context.join('')))
    assert.equal(secretOf(shared), secret)
  })

  test('the certificate of the key file is that of its key', (t) => {
    if (lacks(t, 'vectors', folder !== undefined)) return
    const file = read('simulator/appkeys.json')
    const scalar = bytes(read('keys/kms-derivation.json').root_ca_scalar)
    const spki = new X509Certificate(file.ca_cert).publicKey.export({ type: 'spki', format: 'der' })
    assert.equal(hex(p256Key(scalar).spki), hex(spki))
    assert.equal(p256Key(scalar).pem, file.key_provider.None.key)
  })
})
