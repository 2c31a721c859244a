import { sign } from 'node:crypto'
import { join } from 'node:path'
import { encode } from 'cborg'
import { createNitroChain, createNitroRoot, type NitroChain } from '../../src/simulate/nitro-pki.ts'
import { read } from './vectors.ts'

/** Documents from real hardware; what they are stands in the folder's README. */
const fixture = (name: string) => read(join(import.meta.dirname, '../fixtures/nitro'), name)
export const genuine = fixture('dstack-2025.cbor')
export const genuineDebug = fixture('evervault-2022-debug.cbor')
export const genuineLarge = fixture('blocky-2024-debug.cbor')

/** The moment at which the tests' own documents are made and judged. */
export const NOW = Date.UTC(2030, 4, 10, 10)
export const testRoot = createNitroRoot(NOW)
export const testChain = createNitroChain(testRoot, 'i-1-enc1', NOW)

/** The fields of a good payload, each of which a test may replace or leave out (undefined). */
export function payloadFields(chain: NitroChain = testChain): Map<string, unknown> {
  const pcr = (octet: number) => new Uint8Array(48).fill(octet)
  return new Map<string, unknown>([
    ['module_id', 'i-1-enc1'],
    ['digest', 'SHA384'],
    ['timestamp', NOW],
    ['pcrs', new Map([0, 1, 2, 3].map((index) => [index, pcr(index + 1)]))],
    ['certificate', chain.leaf.certificate],
    ['cabundle', chain.cabundle],
    ['public_key', null],
    ['user_data', Buffer.from('user data')],
    ['nonce', null],
  ])
}

/** A document over this payload, signed with the chain's key. */
export function signPayload(payload: Uint8Array, { leaf }: NitroChain = testChain): Uint8Array {
  const header = encode(new Map([[1, -35]]))
  const signed = encode(['Signature1', header, new Uint8Array(0), payload])
  const key = { key: leaf.privateKey, dsaEncoding: 'ieee-p1363' } as const
  return encode([header, {}, payload, sign('sha384', signed, key)])
}

/** A document like the good one but for some fields. */
export function makeDocument(
  changes: Readonly<Record<string, unknown>> = {},
  chain: NitroChain = testChain,
): Uint8Array {
  const fields = payloadFields(chain)
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) fields.delete(name)
    else fields.set(name, value)
  }
  return signPayload(encode(fields), chain)
}
