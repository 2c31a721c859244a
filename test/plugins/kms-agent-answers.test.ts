/** What an agent reads of a KMS's answers: anything may be in them. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { assertSignedBy, readAppKeys } from '../../plugins/kms/agent/app-keys.ts'
import { providerConflict } from '../../plugins/kms/agent/key-provider.ts'
import { readIssuedChain } from '../../plugins/kms/certificates/issued-chain.ts'
import { issueLeaf } from '../../plugins/kms/certificates/leaf.ts'
import { p256Key } from '../../plugins/kms/certificates/p256-key.ts'
import { publicKeyOf, randomP256Scalar } from '../../plugins/kms/derivation/curves.ts'
import { appCaScalar, appRootKey, issuedClaim } from '../../plugins/kms/derivation/kms-keys.ts'
import { appAuthority } from '../../plugins/kms/server/app-certificates.ts'
import { createMaterial, randomRootKeys } from '../../plugins/kms/server/root-material.ts'
import { recoverSigner, signRecoverable } from '../../plugins/kms/signing/recoverable.ts'
import { NO_ATTESTER } from '../../src/attester/none.ts'
import { certificatePem } from '../../src/x509/issue.ts'
import { lacks } from '../helpers/counterpart.ts'
import { vectors } from '../helpers/vectors.ts'
import { rootOf } from './kms-agent-fixtures.ts'
import { hex, unhex } from './kms-fixtures.ts'
import { derOf } from './kms-server-fixtures.ts'

const material = createMaterial(randomRootKeys(), 'kms.example', undefined)
const root = rootOf(material)
const appId = new Uint8Array(20).fill(1)

describe('the answer to GetAppKey', () => {
  const key = appRootKey(material.root, appId)
  const claim = issuedClaim(appId, publicKeyOf('secp256k1', key))
  const answer = {
    ca_cert: material.authority.chain[0],
    disk_crypt_key: '11'.repeat(32),
    env_crypt_key: '22'.repeat(32),
    k256_key: hex(key),
    k256_signature: hex(signRecoverable(material.root.k256, claim)),
    tproxy_app_id: '',
    gateway_app_id: '',
    os_image_hash: '',
  }
  const kmsKey = hex(publicKeyOf('secp256k1', material.root.k256))

  test('is read as it is meant, and is checked against what the KMS says of itself', () => {
    for (const [more, rootVersion] of [
      [{}, undefined],
      [{ root_version: 3, newer: 1 }, 3],
    ] as const) {
      const keys = readAppKeys({ ...answer, ...more }, appId, [root])
      assert.equal(hex(keys.root), hex(key))
      assert.deepEqual([hex(keys.kmsKey), keys.rootVersion], [kmsKey, rootVersion])
      assertSignedBy({ k256_pubkey: kmsKey, ...more }, keys)
      // Of other root keys than those it says something of.
      assertSignedBy({ k256_pubkey: '', root_version: 4 }, keys)
      const other = hex(publicKeyOf('secp256k1', key))
      assert.throws(() => assertSignedBy({ k256_pubkey: other, ...more }, keys), /not by its root/)
      assert.throws(() => assertSignedBy({ ...more }, keys), /k256_pubkey is of 0 bytes/)
    }
    const keys = readAppKeys(answer, new Uint8Array(20).fill(2), [root])
    assert.throws(() => assertSignedBy({ k256_pubkey: kmsKey }, keys), /not for this application/)
  })

  test('of any other kind is an error that repeats nothing of it', () => {
    const name = fc.constantFrom(...Object.keys(answer), 'root_version')
    const secrets = [answer.k256_key, answer.disk_crypt_key, answer.env_crypt_key]
    const member = fc.oneof(
      fc.jsonValue(),
      fc.uint8Array({ maxLength: 70 }).map(hex),
      fc.constantFrom(...secrets).map((text) => text.slice(1)),
    )
    fc.assert(
      fc.property(name, member, (changed, value) => {
        try {
          const keys = readAppKeys({ ...answer, [changed]: value }, appId, [root])
          assert.equal(keys.root.length, 32)
        } catch (error) {
          const { message, stack, cause } = error as Error
          assert.equal((error as Error).name, 'Error', String(error))
          assert.match(message, new RegExp(`^its ${changed} is |^its k256_`))
          for (const secret of secrets) {
            assert.ok(!`${stack}${cause}`.includes(secret.slice(1)), message)
          }
        }
      }),
      { numRuns: 500 },
    )
  })
})

describe('a signed chain', () => {
  const key = p256Key(randomP256Scalar())
  const authority = appAuthority(material.authority, appCaScalar(material.root, appId), appId)
  const leaf = { subject: 'a', altNames: ['a'], serverAuth: true, clientAuth: false }
  const chain = issueLeaf(authority, key, leaf, [])
  const expected = { spki: key.spki, root, withEvidence: false, at: Date.now() }

  test('is read as it is meant, with its root or without', () => {
    assert.deepEqual(readIssuedChain(chain, expected), chain)
    assert.deepEqual(readIssuedChain(chain.slice(0, 2), expected), chain)
  })

  test('that was changed anywhere is refused', () => {
    fc.assert(
      fc.property(
        fc.nat({ max: chain.length - 1 }),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        (which, offset, mask) => {
          const der = Uint8Array.from(derOf(chain[which] ?? ''))
          const at = offset % der.length
          der[at] = (der[at] ?? 0) ^ mask
          const changed = chain.map((pem, i) => (i === which ? certificatePem(der) : pem))
          assert.throws(() => readIssuedChain(changed, expected))
        },
      ),
      { numRuns: 300 },
    )
  })

  test('of any other kind is an error', () => {
    const part = fc.oneof(fc.jsonValue(), fc.constantFrom(...chain), fc.string())
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), fc.array(part, { maxLength: 5 })), (given) => {
        try {
          assert.deepEqual(readIssuedChain(given, expected), chain)
        } catch (error) {
          assert.ok(['Error', 'EvidenceError'].includes((error as Error).name), String(error))
        }
      }),
      { numRuns: 300 },
    )
  })

  test('at a time when its authorities are not valid is refused', () => {
    for (const at of [Date.UTC(1970, 0, 1), Date.UTC(2100, 0, 1)]) {
      assert.throws(() => readIssuedChain(chain, { ...expected, at }), /valid from|expired/)
    }
  })
})

describe('whose signature it is', () => {
  test('is told of those that the plugin makes, and of no others', () => {
    const isOf = (signature: Uint8Array, message: Uint8Array) => recoverSigner(signature, message)
    fc.assert(
      fc.property(
        fc.uint8Array(),
        fc.nat(64),
        fc.integer({ min: 1, max: 255 }),
        (data, at, mask) => {
          const scalar = randomRootKeys().k256
          const signature = signRecoverable(scalar, data)
          const signer = hex(publicKeyOf('secp256k1', scalar))
          assert.equal(hex(isOf(signature, data) ?? new Uint8Array()), signer)
          const changed = Uint8Array.from(signature)
          changed[at] = (changed[at] ?? 0) ^ mask
          assert.notEqual(hex(isOf(changed, data) ?? new Uint8Array()), signer)
          assert.equal(isOf(signature.subarray(0, at), data), undefined)
        },
      ),
      { numRuns: 50 },
    )
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 65, maxLength: 65 }), (signature) => {
        recoverSigner(signature, new Uint8Array())
      }),
    )
    const high = signRecoverable(randomRootKeys().k256, new Uint8Array())
    high.fill(0xff, 32, 33)
    assert.equal(recoverSigner(high, new Uint8Array()), undefined, 'the higher s')
  })

  test('shared vectors: the root key of a KMS', (t) => {
    const folder = vectors('dstack')
    if (lacks(t, 'vectors', folder !== undefined)) return
    const text = readFileSync(join(folder ?? '', 'keys', 'signature_chain.json'), 'utf8')
    const { app_id, app_root_pubkey, kms_root_pubkey, cases } = JSON.parse(text)
    const issued = issuedClaim(unhex(app_id), unhex(app_root_pubkey))
    for (const { public_key, signature_chain: chain } of cases) {
      assert.equal(hex(recoverSigner(unhex(chain[2]), issued) ?? new Uint8Array()), kms_root_pubkey)
      const claim = Buffer.from(`signing:${public_key}`)
      assert.equal(hex(recoverSigner(unhex(chain[1]), claim) ?? new Uint8Array()), app_root_pubkey)
    }
  })
})

test('anything may have been measured as key provider', async () => {
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.string(), fc.json()), async (text) => {
      const event_payload = Buffer.from(text).toString('hex')
      const entry = {
        imr: 3,
        event_type: 134217729,
        digest: '',
        event: 'key-provider',
        event_payload,
      }
      const runtimeEvents = { ...NO_ATTESTER.runtimeEvents, list: async () => [entry] }
      const expected = { names: ['kms'], id: '00' } as const
      const conflict = await providerConflict({ ...NO_ATTESTER, runtimeEvents }, expected)
      assert.match(conflict ?? '', /^this machine measured key-provider "/)
      assert.ok((conflict ?? '').length < 4096)
    }),
    { numRuns: 200 },
  )
})
