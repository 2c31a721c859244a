import { type Container, stripContainer, writeContainer } from '../../../src/attest/container.ts'
import { ScaleWriter } from '../../../src/attest/scale.ts'
import type { LeafRequest } from './leaf.ts'

/** With what a request for a certificate begins (spec dstack §8, CSR). */
export const CONFIRM = 'please sign cert:'

/** What a KMS is asked to sign. */
export interface SigningRequestFields {
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array
  readonly leaf: LeafRequest
  /** Put the evidence into the certificate. */
  readonly withEvidence: boolean
  readonly withAppInfo: boolean
  /** Evidence about the key, by which the KMS knows whose it is; it is stripped here. */
  readonly attestation: Container
}

/**
 * Writes a request of version 2, which the key in it has to sign.
 *
 * @throws {EvidenceError} As `writeContainer`.
 */
export function writeSigningRequest(fields: SigningRequestFields): Uint8Array {
  const { spki, leaf, withEvidence, withAppInfo, attestation } = fields
  const writer = new ScaleWriter().text(CONFIRM).bytes(spki)
  const flag = (value: boolean) => writer.u8(value ? 1 : 0)
  const option = <T>(value: T | undefined, write: (value: T) => void) => {
    flag(value !== undefined)
    if (value !== undefined) write(value)
  }
  const seconds = (value: number) => writer.raw(u64(value))
  option(leaf.organization, (name) => writer.text(name))
  writer.text(leaf.subject)
  writer.list(leaf.altNames, (name) => writer.text(name))
  for (const value of [leaf.serverAuth, leaf.clientAuth, withEvidence, withAppInfo]) flag(value)
  option(leaf.notBefore, seconds)
  option(leaf.notAfter, seconds)
  // The container ends where the request does, and has no length of its own.
  return writer.raw(writeContainer(stripContainer(attestation))).finish()
}

function u64(value: number): Uint8Array {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}
