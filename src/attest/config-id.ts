import { keccak_256 } from '@noble/hashes/sha3'

/** MRCONFIGID of version 1, 48 bytes: `01 || compose hash || 0…`. */
export function configIdV1(compose: Uint8Array): Uint8Array {
  return padded(Uint8Array.of(1), compose)
}

/** Who gives the application its keys, with the number that MRCONFIGID of version 2 hashes. */
export const KEY_PROVIDER_KINDS = { none: 0, local: 1, kms: 2, tpm: 3 } as const

/** MRCONFIGID of version 2, 48 bytes: `02 || keccak256(compose || app id || kind || id) || 0…`. */
export function configIdV2(options: {
  readonly composeHash: Uint8Array
  readonly appId: Uint8Array
  readonly kind: keyof typeof KEY_PROVIDER_KINDS
  readonly providerId: Uint8Array
}): Uint8Array {
  const kind = Uint8Array.of(KEY_PROVIDER_KINDS[options.kind])
  const data = Buffer.concat([options.composeHash, options.appId, kind, options.providerId])
  return padded(Uint8Array.of(2), keccak_256(data))
}

function padded(...parts: readonly Uint8Array[]): Uint8Array {
  const result = new Uint8Array(48)
  result.set(Buffer.concat(parts))
  return result
}
