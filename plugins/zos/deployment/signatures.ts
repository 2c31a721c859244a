import { decodeHex, encodeHex } from '../json/hex.ts'
import { JsonError } from '../json/json-error.ts'
import type { Deployment, Signature, SignatureRequest } from '../model.ts'
import { ZosError } from '../zos-error.ts'
import { verifyEd25519 } from './ed25519.ts'
import { hashOf } from './hash.ts'
import { verifySr25519 } from './sr25519.ts'

export interface SignatureOptions {
  /**
   * The public key of a twin, 32 bytes. What it throws is told to the caller; a `RegistryError`
   * makes the refusal `unavailable`.
   */
  keyOf(twinId: number): Promise<Uint8Array>
  /**
   * As the reference: an optional signature that is absent is a wrong one. Without, it only adds no
   * weight (spec zos §6).
   */
  readonly strict: boolean
}

/** Each costs a look into the registry and some milliseconds. */
const MAX_SIGNERS = 100

/**
 * Checks that those signed who have to, and that their weights suffice (spec zos §6).
 *
 * @throws {ZosError} `authentication`, in the words of the reference.
 */
export async function verifySignatures(
  deployment: Deployment,
  { keyOf, strict }: SignatureOptions,
): Promise<void> {
  const { requests, signatures, weightRequired } = deployment.signatureRequirement
  if (new Set(requests.map(({ twinId }) => twinId)).size > MAX_SIGNERS) {
    throw refused(`signatures of more than ${MAX_SIGNERS} twins are requested`)
  }
  const message = messageOf(deployment)
  const byTwin = firstOfEach(signatures)
  const verified = new Set<number>()
  let weight = 0n
  for (const request of requests) {
    const signature = byTwin.get(request.twinId)
    if (signature === undefined) {
      if (isRequired(request, deployment)) {
        throw refused(`missing required signature for twin '${request.twinId}'`)
      }
      if (!strict) continue
    }
    // Who is asked for twice counts twice.
    if (!verified.has(request.twinId)) {
      const key = await keyFor(request.twinId, keyOf)
      if (!(await isRight(key, message, signature))) throw refused('failed to verify signature')
      verified.add(request.twinId)
    }
    weight += request.weight
  }
  if (!requests.some(({ twinId }) => twinId === deployment.twinId)) {
    throw refused('originator twin id must be in the signature requests')
  }
  if (weight < weightRequired) throw refused('required signature weight is not reached')
}

/** What is signed: the hash, or for style `polka-wallet` a text around its hex. */
function messageOf(deployment: Deployment): Uint8Array {
  const hash = hashOf(deployment)
  if (deployment.signatureRequirement.signatureStyle !== 'polka-wallet') return hash
  return new TextEncoder().encode(`<Bytes>${encodeHex(hash)}</Bytes>`)
}

function isRequired({ twinId, required }: SignatureRequest, deployment: Deployment): boolean {
  return required || twinId === deployment.twinId
}

function firstOfEach(signatures: readonly Signature[]): ReadonlyMap<number, Signature> {
  return new Map(signatures.toReversed().map((signature) => [signature.twinId, signature]))
}

async function keyFor(twinId: number, keyOf: SignatureOptions['keyOf']): Promise<Uint8Array> {
  try {
    return await keyOf(twinId)
  } catch (cause) {
    const { name = '', message = String(cause) } = cause instanceof Error ? cause : {}
    const kind = name === 'RegistryError' ? 'unavailable' : 'authentication'
    const text = `failed to get public key for twin '${twinId}': could not get user with id '${twinId}': ${message}`
    throw new ZosError(kind, text, { cause })
  }
}

async function isRight(
  key: Uint8Array,
  message: Uint8Array,
  signature: Signature | undefined,
): Promise<boolean> {
  const bytes = bytesOf(signature?.signature ?? '')
  return signature?.signatureType === 'sr25519'
    ? await verifySr25519(key, message, bytes)
    : verifyEd25519(key, message, bytes)
}

function bytesOf(signature: string): Uint8Array {
  try {
    return decodeHex(signature)
  } catch (cause) {
    if (!(cause instanceof JsonError)) throw cause
    throw new ZosError('authentication', `invalid signature: ${cause.message}`, { cause })
  }
}

function refused(message: string): ZosError {
  return new ZosError('authentication', message)
}
