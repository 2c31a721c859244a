import { ApiError } from '../../../src/errors.ts'
import { claimV0, claimV1, keyV0, keyV1 } from '../derivation/app-keys.ts'
import { type Algorithm, publicKeyOf } from '../derivation/curves.ts'
import { signRecoverable } from '../signing/recoverable.ts'
import type { KeySource } from './key-source.ts'

/** A key derived for the application. */
export interface DerivedKey {
  /** 32 bytes. */
  readonly secret: Uint8Array
  /** See `publicKeyOf`. */
  readonly publicKey: Uint8Array
  /** By the root key over the claim, 65 bytes; then by the KMS over the root key, 65 or none. */
  readonly chain: readonly [Uint8Array, Uint8Array]
}

/** Longer names are derived anew each time, so that the number of keys bounds the memory. */
const MAX_CACHED_CHARACTERS = 512

/**
 * Derives the application's keys and keeps the latest used ones, because the signature beside a key
 * takes a hundred times as long as the key.
 */
export class Keyring {
  readonly #root: Uint8Array
  readonly #rootSignature: Uint8Array
  readonly #permitted: ReadonlySet<string> | undefined
  readonly #most: number
  /** In the order of their last use. */
  readonly #kept = new Map<string, DerivedKey>()

  /**
   * @param source Its root key is zeroed by {@link clear}.
   * @param permitted Names of keys; undefined permits all.
   * @param most How many keys to keep.
   */
  constructor(
    source: Pick<KeySource, 'root' | 'rootSignature'>,
    permitted: readonly string[] | undefined,
    most: number,
  ) {
    this.#root = source.root
    this.#rootSignature = source.rootSignature
    this.#permitted = permitted && new Set(permitted)
    this.#most = most
  }

  /** @throws {ApiError} 404 `KEY_NOT_FOUND`. */
  v0(path: string, purpose: string, algorithm: Algorithm): DerivedKey {
    this.#assertPermitted(path)
    return this.#keyV0(path, purpose, algorithm)
  }

  /** @throws {ApiError} 404 `KEY_NOT_FOUND`. */
  v1(domain: string, algorithm: Algorithm): DerivedKey {
    this.#assertPermitted(domain)
    return this.#cached(['v1', algorithm, domain], () => {
      const secret = keyV1(this.#root, domain, algorithm)
      return this.#withChain(secret, algorithm, (key) => claimV1(domain, algorithm, key))
    })
  }

  /**
   * A P-256 scalar, 32 bytes: those of the version 0 key. The caller zeroes it.
   *
   * @throws {ApiError} 404 `KEY_NOT_FOUND`.
   */
  p256Scalar(path: string): Uint8Array {
    this.#assertPermitted(path)
    return keyV0(this.#root, path)
  }

  /** The key that signs for the application, which never leaves the agent by itself. */
  signing(algorithm: Algorithm): DerivedKey {
    return this.#keyV0('vms', 'signing', algorithm)
  }

  /** Forgets all keys, the root key too; the runtime may have copies that nobody can reach. */
  clear(): void {
    for (const { secret } of this.#kept.values()) secret.fill(0)
    this.#kept.clear()
    this.#root.fill(0)
  }

  #assertPermitted(name: string): void {
    if (this.#permitted?.has(name) ?? true) return
    const why = `No key is kept for ${JSON.stringify(name.slice(0, 64))}`
    throw new ApiError(404, 'KEY_NOT_FOUND', `${why}: permitted_keys does not name it`)
  }

  #keyV0(path: string, purpose: string, algorithm: Algorithm): DerivedKey {
    return this.#cached(['v0', algorithm, path, purpose], () =>
      this.#withChain(keyV0(this.#root, path), algorithm, (key) => claimV0(purpose, key)),
    )
  }

  #withChain(
    secret: Uint8Array,
    algorithm: Algorithm,
    claim: (publicKey: Uint8Array) => Uint8Array,
  ): DerivedKey {
    const publicKey = publicKeyOf(algorithm, secret)
    const link = signRecoverable(this.#root, claim(publicKey))
    return { secret, publicKey, chain: [link, this.#rootSignature] }
  }

  #cached(name: readonly string[], derive: () => DerivedKey): DerivedKey {
    const id = JSON.stringify(name)
    const found = this.#kept.get(id)
    if (found) {
      this.#kept.delete(id)
      this.#kept.set(id, found)
      return found
    }
    const derived = derive()
    if (id.length > MAX_CACHED_CHARACTERS || this.#most === 0) return derived
    const [oldest] = this.#kept
    if (oldest && this.#kept.size >= this.#most) {
      this.#kept.delete(oldest[0])
      oldest[1].secret.fill(0)
    }
    this.#kept.set(id, derived)
    return derived
  }
}
