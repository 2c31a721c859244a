import { toHex } from '../../../src/attest/hex.ts'
import type { Algorithm } from './curves.ts'
import { hkdf32, RATLS_SALT } from './hkdf.ts'

/*
 * Keys of an application below its root key (spec dstack §7). Each comes with a claim, which the
 * root key signs, so that others can tell whose key it is.
 */

/**
 * The key of a path, version 0. The algorithm does not enter: the same 32 bytes serve secp256k1,
 * Ed25519 and P-256, which is why version 1 exists.
 *
 * @param root Root key of the application, 32 bytes.
 */
export function keyV0(root: Uint8Array, path: string): Uint8Array {
  return hkdf32(RATLS_SALT, root, Buffer.from(path))
}

/** What is claimed of a key of version 0; its purpose enters here alone. */
export function claimV0(purpose: string, publicKey: Uint8Array): Uint8Array {
  return Buffer.from(`${purpose}:${toHex(publicKey)}`)
}

/** The key of a domain and an algorithm, version 1: 32 bytes that nothing else shares. */
export function keyV1(root: Uint8Array, domain: string, algorithm: Algorithm): Uint8Array {
  const info = lengthPrefixed('dstack-guest-v1-key', algorithm, domain)
  return hkdf32('dstack-guest-v1', root, info)
}

/** What is claimed of a key of version 1. */
export function claimV1(domain: string, algorithm: Algorithm, publicKey: Uint8Array): Uint8Array {
  return lengthPrefixed('dstack-guest-v1-key-claim', algorithm, domain, publicKey)
}

/** `be32(length) || bytes` of each part, so that no two lists of parts give the same bytes. */
function lengthPrefixed(...parts: readonly (string | Uint8Array)[]): Uint8Array {
  return Buffer.concat(
    parts.flatMap((part) => {
      const bytes = Buffer.from(part)
      const length = Buffer.alloc(4)
      length.writeUInt32BE(bytes.length)
      return [length, bytes]
    }),
  )
}
