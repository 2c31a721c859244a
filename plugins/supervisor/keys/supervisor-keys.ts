import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { join } from 'node:path'
import { Generations, type KeyOwner, nameOf } from './generations.ts'
import { KeyError } from './key-error.ts'
import { assertMaster, openMaster } from './master.ts'
import type { KeyHolder } from './scopes.ts'

export { KeyError } from './key-error.ts'

/** Keys known at a time. */
const MAX_KEYS = 10_000

/** Names of services (spec §9.1). */
const SERVICE = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/

/** Whom the key of the whole device belongs to (spec §2.2). */
export const GLOBAL: KeyOwner = { appId: 0, service: null }

/** Compared where a key is unknown. */
const NO_KEY = Buffer.alloc(64)

/** Where keys come from. */
export interface SupervisorKeysOptions {
  /** Folder for `master-secret` and `generations.json`; must be there. */
  readonly folder: string
  /** 32 bytes from a KMS or from sealed storage; no secret is read or written then. */
  readonly master?: Uint8Array | undefined
}

interface Known {
  readonly holder: KeyHolder
  /** 64 hex digits. */
  readonly key: string
}

/**
 * The keys of the supervisor's API: one for the device and one per service that asked for it. None
 * is stored: a key is HMAC-SHA-256 of `appId|service|generation` under a master secret (spec
 * §23.5), 64 lower-case hex digits.
 */
export class SupervisorKeys {
  readonly #generations: Generations
  readonly #options: SupervisorKeysOptions
  /** What a presented key is looked up by, so that nothing about a real one can be timed. */
  readonly #lookupSecret = randomBytes(32)
  #master: Uint8Array | undefined
  /** By owner. */
  readonly #known = new Map<string, Known>()
  readonly #byLookup = new Map<string, Known>()

  constructor(options: SupervisorKeysOptions) {
    this.#options = options
    this.#generations = new Generations(join(options.folder, 'generations.json'))
  }

  /**
   * Reads the secret, or makes it, and the generations.
   *
   * @returns Whether the secret is new, so that all keys given out before are worth nothing.
   * @throws {KeyError} When a file or the given secret is bad.
   */
  async open(): Promise<boolean> {
    const { folder, master: given } = this.#options
    if (given) assertMaster(given)
    await this.#generations.load()
    const { secret, created } = given
      ? { secret: given.slice(), created: false }
      : await openMaster(join(folder, 'master-secret'))
    this.#master = new Uint8Array(secret)
    secret.fill(0)
    this.keyOf(GLOBAL)
    return created
  }

  /** Forgets the secret and all keys; none is valid until {@link open}. */
  close(): void {
    this.#master?.fill(0)
    this.#master = undefined
    this.#known.clear()
    this.#byLookup.clear()
  }

  /**
   * The key of a service, or of the device; valid from now on.
   *
   * @throws {KeyError} Before {@link open}, for a name that is none, or when there are too many.
   */
  keyOf(owner: KeyOwner): string {
    assertOwner(owner)
    return (this.#known.get(nameOf(owner)) ?? this.#learn(owner)).key
  }

  /** Makes exactly the keys of these services valid, and that of the device. */
  retain(services: Iterable<{ readonly appId: number; readonly service: string }>): void {
    const names = new Set([nameOf(GLOBAL)])
    for (const owner of services) {
      this.keyOf(owner)
      names.add(nameOf(owner))
    }
    for (const name of this.#known.keys()) if (!names.has(name)) this.#forget(name)
  }

  /** Whose key it is; undefined for a key that is not valid. Takes the same time for any. */
  verify(key: string): KeyHolder | undefined {
    const found = this.#byLookup.get(this.#lookup(key))
    const given = Buffer.alloc(64)
    given.write(key, 'latin1')
    const same = timingSafeEqual(given, found ? Buffer.from(found.key, 'latin1') : NO_KEY)
    return same && key.length === 64 ? found?.holder : undefined
  }

  /**
   * Makes a key anew. The old one is not valid any more when this resolves; a failure leaves it.
   *
   * @returns The new key.
   * @throws {KeyError} When the new generation cannot be stored.
   */
  async regenerate({ appId, service }: KeyOwner): Promise<string> {
    assertOwner({ appId, service })
    this.#secret()
    await this.#generations.raise({ appId, service })
    return this.#learn({ appId, service }).key
  }

  #learn({ appId, service }: KeyOwner): Known {
    const name = nameOf({ appId, service })
    const key = createHmac('sha256', this.#secret())
      .update(`${name}|${this.#generations.of({ appId, service })}`)
      .digest('hex')
    this.#forget(name)
    if (this.#known.size >= MAX_KEYS) {
      throw new KeyError('KEY_NOT_POSSIBLE', `Cannot make API key number ${MAX_KEYS + 1}`)
    }
    const scope = service === null ? { type: 'global' as const } : { type: 'app' as const, appId }
    const known = { key, holder: { appId, service, scopes: [scope] } }
    this.#known.set(name, known)
    this.#byLookup.set(this.#lookup(key), known)
    return known
  }

  #forget(name: string): void {
    const known = this.#known.get(name)
    if (!known) return
    this.#known.delete(name)
    this.#byLookup.delete(this.#lookup(known.key))
  }

  #lookup(key: string): string {
    return createHmac('sha256', this.#lookupSecret).update(key).digest('base64')
  }

  #secret(): Uint8Array {
    if (this.#master) return this.#master
    throw new KeyError('KEY_NOT_POSSIBLE', 'Cannot make API keys: the plugin is not started')
  }
}

/** Without this a name could stand for another owner's key. */
function assertOwner({ appId, service }: KeyOwner): void {
  const device = service === null && appId === GLOBAL.appId
  const named = service !== null && SERVICE.test(service) && Number.isSafeInteger(appId)
  if (device || (named && appId >= 0)) return
  const name = JSON.stringify(service?.slice(0, 64) ?? null)
  throw new KeyError('KEY_NOT_POSSIBLE', `Cannot make an API key: no service ${name} of ${appId}`)
}
