import { sign } from 'node:crypto'
import { encode } from 'cborg'
import type { NitroChain } from './nitro-pki.ts'

/** The payload of a document in the order modules write it; keys are those of spec nitro §3. */
export interface DocumentFields {
  readonly moduleId: string
  /** Unix milliseconds. */
  readonly timestamp: number
  /** By index; the locked registers. */
  readonly pcrs: ReadonlyMap<number, Uint8Array>
  readonly publicKey: Uint8Array | null
  readonly userData: Uint8Array | null
  readonly nonce: Uint8Array | null
}

/** The map `{1: -35}`: ES384. */
const PROTECTED = Uint8Array.of(0xa1, 0x01, 0x38, 0x22)

/** An attestation document: an untagged COSE_Sign1 (RFC 9052 §4.2), ECDSA P-384 with SHA-384. */
export function signDocument(fields: DocumentFields, { leaf, cabundle }: NitroChain): Uint8Array {
  const payload = indefiniteMap([
    ['module_id', fields.moduleId],
    ['digest', 'SHA384'],
    ['timestamp', fields.timestamp],
    ['pcrs', fields.pcrs],
    ['certificate', leaf.certificate],
    ['cabundle', cabundle],
    ['public_key', fields.publicKey],
    ['user_data', fields.userData],
    ['nonce', fields.nonce],
  ])
  const toSign = encode(['Signature1', PROTECTED, new Uint8Array(0), payload])
  const key = { key: leaf.privateKey, dsaEncoding: 'ieee-p1363' } as const
  return encode([PROTECTED, {}, payload, sign('sha384', toSign, key)])
}

/** As current modules write the payload: 0xbf, keys and values, 0xff (RFC 8949 §3.2.2). */
function indefiniteMap(entries: readonly (readonly [string, unknown])[]): Uint8Array {
  const items = entries.flat().map((item) => encode(item))
  return Buffer.concat([Uint8Array.of(0xbf), ...items, Uint8Array.of(0xff)])
}
