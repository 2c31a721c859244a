import assert from 'node:assert/strict'
import { createPrivateKey, createPublicKey, sign } from 'node:crypto'
import test from 'node:test'
import { getPublicKey, secretFromSeed, sign as signSr25519 } from '@scure/sr25519'
import fc from 'fast-check'
import { hashOf } from '../plugins/zos/deployment/hash.ts'
import { readDeployment } from '../plugins/zos/deployment/read.ts'
import { verifySignatures } from '../plugins/zos/deployment/signatures.ts'
import { encodeHex } from '../plugins/zos/json/hex.ts'
import type { Deployment } from '../plugins/zos/model.ts'
import { refusalOf, trusted, wireWorkload, zosVectors } from './helpers/zos-deployment.ts'

test('zos signatures: the shared cases, strict as the reference and not', async (t) => {
  interface Vectors {
    readonly twins: Record<string, { public_key: string }>
    readonly cases: {
      readonly name: string
      readonly deployment_json: string
      readonly hash: string
      readonly error: string | null
    }[]
  }
  const { twins = {}, cases = [] } = zosVectors<Vectors>(t, 'signatures') ?? {}
  const keyOf = async (id: number) => {
    const twin = twins[id]
    if (twin === undefined) throw new Error('twin not found')
    return Uint8Array.from(Buffer.from(twin.public_key, 'hex'))
  }
  for (const { name, deployment_json, hash, error } of cases) {
    const deployment = readDeployment(deployment_json)
    assert.equal(encodeHex(hashOf(deployment)), hash, name)
    const strict = await refusalOf(verifySignatures(deployment, { keyOf, strict: true }))
    assert.equal(strict?.message ?? null, error, name)
    assert.equal(strict?.kind ?? 'authentication', 'authentication', name)
    const loose = await refusalOf(verifySignatures(deployment, { keyOf, strict: false }))
    const expected = name === 'optional_signer_absent' ? null : error
    assert.equal(loose?.message ?? null, expected, name)
  }
})

interface Signer {
  readonly type: 'ed25519' | 'sr25519'
  readonly publicKey: Uint8Array
  sign(message: Uint8Array): Uint8Array
}

function ed25519Signer(fill: number): Signer {
  const head = Buffer.from('302e020100300506032b657004220420', 'hex')
  const der = Buffer.concat([head, Buffer.alloc(32, fill)])
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  const spki = createPublicKey(key).export({ format: 'der', type: 'spki' })
  return {
    type: 'ed25519',
    publicKey: Uint8Array.from(spki.subarray(-32)),
    sign: (message) => Uint8Array.from(sign(null, message, key)),
  }
}

function sr25519Signer(fill: number): Signer {
  const secret = secretFromSeed(new Uint8Array(32).fill(fill))
  return {
    type: 'sr25519',
    publicKey: getPublicKey(secret),
    sign: (message) => signSr25519(secret, message),
  }
}

const SIGNERS: Readonly<Record<number, Signer>> = {
  42: ed25519Signer(1),
  56: sr25519Signer(2),
  57: ed25519Signer(3),
}

interface Request {
  readonly twin_id: number
  readonly required?: boolean
  readonly weight?: number
}

interface Wanted {
  readonly requests: readonly Request[]
  readonly weight?: number
  readonly style?: string
}

/** A deployment that these twins signed. */
function signed({ requests, weight = 1, style = '' }: Wanted, by: readonly number[]): Deployment {
  const requirement = { requests, weight_required: weight, signature_style: style }
  const build = (signatures: object[]) =>
    trusted([wireWorkload('zmount', { size: 1 })], {
      signature_requirement: { ...requirement, signatures },
    })
  const hash = hashOf(build([]))
  const message = style === 'polka-wallet' ? Buffer.from(`<Bytes>${encodeHex(hash)}</Bytes>`) : hash
  return build(
    by.map((twin_id) => {
      const signer = SIGNERS[twin_id] as Signer
      return {
        twin_id,
        signature: encodeHex(signer.sign(message)),
        signature_type: signer.type,
      }
    }),
  )
}

const asked: number[] = []
const keyOf = async (id: number) => {
  asked.push(id)
  const signer = SIGNERS[id]
  if (signer === undefined) throw new Error('twin not found')
  return signer.publicKey
}
const outcome = async (deployment: Deployment, strict = false) =>
  (await refusalOf(verifySignatures(deployment, { keyOf, strict })))?.message

test('zos signatures: both kinds in both styles', async () => {
  const requests = [
    { twin_id: 42, weight: 1 },
    { twin_id: 56, required: true, weight: 2 },
  ]
  for (const style of ['', 'polka-wallet', 'another']) {
    const deployment = signed({ requests, weight: 3, style }, [42, 56])
    assert.equal(await outcome(deployment), undefined, style)
    assert.equal(await outcome({ ...deployment, version: 1 }), 'failed to verify signature')
  }
  const plain = signed({ requests, weight: 3 }, [42, 56])
  const { signatureRequirement } = plain
  const turned = { ...signatureRequirement, signatureStyle: 'polka-wallet' }
  assert.equal(
    await outcome({ ...plain, signatureRequirement: turned }),
    'failed to verify signature',
  )
})

test('zos signatures: weights, of those who signed', async () => {
  const requests = [
    { twin_id: 42, weight: 1 },
    { twin_id: 56, weight: 1 },
    { twin_id: 57, weight: 5 },
  ]
  const enough = [42, 57]
  assert.equal(await outcome(signed({ requests, weight: 6 }, enough)), undefined)
  assert.equal(
    await outcome(signed({ requests, weight: 6 }, enough), true),
    'failed to verify signature',
  )
  assert.equal(
    await outcome(signed({ requests, weight: 7 }, enough)),
    'required signature weight is not reached',
  )
  assert.equal(
    await outcome(signed({ requests, weight: 2 }, [56, 57])),
    "missing required signature for twin '42'",
  )
  const without = signed({ requests: [{ twin_id: 56, weight: 9 }] }, [56])
  assert.equal(await outcome(without), 'originator twin id must be in the signature requests')
  const twice = [
    { twin_id: 42, weight: 1 },
    { twin_id: 42, weight: 1 },
  ]
  asked.length = 0
  assert.equal(await outcome(signed({ requests: twice, weight: 2 }, [42])), undefined)
  assert.deepEqual(asked, [42])
})

test('zos signatures: a signature that cannot be one', async () => {
  const deployment = signed({ requests: [{ twin_id: 42, weight: 1 }] }, [42])
  const { signatureRequirement } = deployment
  const [first] = signatureRequirement.signatures
  assert.ok(first)
  const withSignature = (signature: string, signatureType = 'ed25519') => ({
    ...deployment,
    signatureRequirement: {
      ...signatureRequirement,
      signatures: [{ ...first, signature, signatureType }],
    },
  })
  assert.equal(
    await outcome(withSignature(`0x${first.signature}`)),
    "invalid signature: encoding/hex: invalid byte: U+0078 'x'",
  )
  assert.equal(await outcome(withSignature(first.signature.toUpperCase(), 'any')), undefined)
  for (const type of ['ed25519', 'sr25519']) {
    for (const wrong of ['', 'ff'.repeat(63), 'ff'.repeat(64), '00'.repeat(64), 'ff'.repeat(65)]) {
      assert.equal(await outcome(withSignature(wrong, type)), 'failed to verify signature', wrong)
    }
  }
  for (const type of ['ed25519', 'sr25519']) {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 64, maxLength: 64 }),
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        async (signature, key) => {
          const attempt = verifySignatures(withSignature(encodeHex(signature), type), {
            keyOf: async () => key,
            strict: false,
          })
          assert.equal((await refusalOf(attempt))?.message, 'failed to verify signature')
        },
      ),
      { numRuns: 20 },
    )
  }
  const short = verifySignatures(deployment, {
    keyOf: async () => new Uint8Array(31),
    strict: false,
  })
  assert.equal((await refusalOf(short))?.message, 'failed to verify signature')
})

test('zos signatures: a registry that cannot be asked is no proof of anything', async () => {
  const deployment = signed({ requests: [{ twin_id: 42, weight: 1 }] }, [42])
  const failing = (name: string) => {
    const keyOf = async () => {
      throw Object.assign(new Error('it is away'), { name })
    }
    return refusalOf(verifySignatures(deployment, { keyOf, strict: false }))
  }
  const message =
    "failed to get public key for twin '42': could not get user with id '42': it is away"
  assert.deepEqual(await failing('Error'), { kind: 'authentication', message })
  assert.deepEqual(await failing('RegistryError'), { kind: 'unavailable', message })
})

test('zos signatures: how many twins may be asked for has a bound', async () => {
  const requests = Array.from({ length: 101 }, (_, i) => ({ twin_id: 42 + i, weight: 1 }))
  asked.length = 0
  assert.match((await outcome(signed({ requests }, [42]))) ?? '', /more than 100 twins/)
  assert.deepEqual(asked, [])
})
