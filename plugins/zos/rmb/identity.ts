import { createPrivateKey, createPublicKey, pbkdf2Sync, sign } from 'node:crypto'
import { mnemonicToEntropy } from '@scure/bip39'
import { wordlist } from '@scure/bip39/wordlists/english'
import { getPublicKey, secretFromSeed, sign as signSr25519 } from '@scure/sr25519'
import { encryptionKey, sharedKey } from './encryption.ts'
import { joined } from './protobuf.ts'
import { type KeyType, TYPE_BYTE } from './signing.ts'

/** The keys of a twin. The secrets stay inside; printing it shows public parts only. */
export interface Identity {
  readonly keyType: KeyType
  /** Account key, 32 bytes. */
  readonly publicKey: Uint8Array
  /** Compressed secp256k1 key that others encrypt for, 33 bytes. */
  readonly pk: Uint8Array
  /** @returns Type byte and 64 bytes. */
  sign(message: Uint8Array): Uint8Array
  /**
   * The key shared with a twin of this `pk`, 32 bytes.
   *
   * @throws {TypeError} When `pk` is no key.
   */
  sharedKey(pk: Uint8Array): Uint8Array
}

/**
 * @param secret Twelve to 24 English words, or a seed of 64 hex digits with or without `0x`. White
 *   space around it does not count.
 * @throws {TypeError} When it is neither; the secret is not in the message.
 */
export function createIdentity(secret: string, keyType: KeyType): Identity {
  const seed = miniSecret(secret)
  const keys = keyType === 'ed25519' ? ed25519Keys(seed) : sr25519Keys(seed)
  return {
    keyType,
    publicKey: keys.publicKey,
    pk: encryptionKey(seed),
    sign: (message) => joined([Uint8Array.of(TYPE_BYTE[keyType]), keys.sign(message)]),
    sharedKey: (pk) => sharedKey(seed, pk),
  }
}

/**
 * The 32 bytes all keys of an account come from (spec §10.3): substrate stretches the entropy of the
 * words, where BIP-39 would take the words.
 *
 * @throws {TypeError} See {@link createIdentity}.
 */
export function miniSecret(secret: string): Uint8Array {
  const text = secret.trim()
  const hex = /^(?:0x)?([0-9a-f]{64})$/i.exec(text)?.[1]
  if (hex !== undefined) return new Uint8Array(Buffer.from(hex, 'hex'))
  let entropy: Uint8Array
  try {
    entropy = mnemonicToEntropy(text.split(/\s+/).join(' '), wordlist)
  } catch {
    // The library's words hold the mnemonic's.
    throw new TypeError(
      'Cannot read the identity of the twin: expected a mnemonic of 12 to 24 English words with a ' +
        'valid checksum, or a seed of 64 hex digits',
    )
  }
  return new Uint8Array(pbkdf2Sync(entropy, 'mnemonic', 2048, 64, 'sha512').subarray(0, 32))
}

interface AccountKeys {
  readonly publicKey: Uint8Array
  /** @returns 64 bytes. */
  sign(message: Uint8Array): Uint8Array
}

/** What stands before the 32 bytes of a seed in PKCS #8 (RFC 8410 §10.3). */
const ED25519_PKCS8 = Uint8Array.from([48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32])

function ed25519Keys(seed: Uint8Array): AccountKeys {
  const der = Buffer.from(joined([ED25519_PKCS8, seed]))
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  const spki = createPublicKey(key).export({ format: 'der', type: 'spki' })
  return {
    publicKey: new Uint8Array(spki.subarray(-32)),
    sign: (message) => new Uint8Array(sign(null, message, key)),
  }
}

function sr25519Keys(seed: Uint8Array): AccountKeys {
  const secret = secretFromSeed(seed)
  return { publicKey: getPublicKey(secret), sign: (message) => signSr25519(secret, message) }
}
