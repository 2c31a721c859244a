import type { Context } from 'hono'
import { addressGroup, Throttle } from '../../../src/auth/throttle.ts'
import { ApiError } from '../../../src/errors.ts'
import type { PluginEnv } from '../../../src/plugin.ts'
import { presentedKey } from '../keys/presented-key.ts'
import {
  type CapabilitiesConfig,
  type Capability,
  type KeyHolder,
  mayUse,
  opensApp,
} from '../keys/scopes.ts'

/** Who nobody asks for a key is: the operator switched it off (spec §2.1). */
const EVERYBODY: KeyHolder = { appId: 0, service: null, scopes: [{ type: 'global' }] }

/** What decides who may do what. */
export interface AccessOptions {
  /** Whose key it is; see `SupervisorKeys.verify`. */
  readonly verify: (key: string) => KeyHolder | undefined
  /** Whether everybody may do everything just now. */
  readonly open: () => boolean
  readonly capabilities: CapabilitiesConfig
  /** Told that a wrong key came from an address. */
  readonly onRefused?: ((address: string) => void) | undefined
}

/**
 * Who calls, by the key of the request (spec §2). A right key always passes. Who sends a wrong one
 * too often is told to wait, although nobody guesses one: it shows a caller that does not notice.
 */
export class Access {
  readonly #options: AccessOptions
  readonly #throttle = new Throttle()

  constructor(options: AccessOptions) {
    this.#options = options
  }

  /** @throws {ApiError} 401 `UNAUTHORIZED`, 429 `TOO_MANY_FAILURES`, 503 when it cannot be told. */
  holderOf(c: Context<PluginEnv>): KeyHolder {
    if (this.#options.open()) return EVERYBODY
    const { url } = c.req
    const query = url.indexOf('?')
    const key = presentedKey(query < 0 ? '' : url.slice(query), c.req.header('authorization'))
    if (key === undefined) throw unauthorized()
    const holder = this.#verify(key)
    if (holder !== undefined) return holder
    const { address } = c.env.peer()
    const peer = address === 'unix' ? c.env.listener : addressGroup(address)
    const seconds = this.#throttle.wait(peer)
    if (seconds > 0) throw tooMany(seconds)
    this.#throttle.fail(peer)
    this.#options.onRefused?.(peer)
    throw unauthorized()
  }

  /** @throws {ApiError} 401 `SCOPE_MISSING` unless the key opens the app. */
  assertApp(holder: KeyHolder, appId: number, message = 'Unauthorized'): void {
    if (!opensApp(holder, appId)) throw new ApiError(401, 'SCOPE_MISSING', message)
  }

  /** @throws {ApiError} 401 `SCOPE_MISSING` unless the key may be used for it. */
  assertMay(holder: KeyHolder, capability: Capability): void {
    if (mayUse(holder, capability, this.#options.capabilities)) return
    throw new ApiError(401, 'SCOPE_MISSING', 'Unauthorized')
  }

  #verify(key: string): KeyHolder | undefined {
    try {
      return this.#options.verify(key)
    } catch (cause) {
      const message = 'Unexpected error: the key cannot be checked'
      throw new ApiError(503, 'UNAUTHORIZED', message, { cause })
    }
  }
}

function unauthorized(): ApiError {
  return new ApiError(401, 'UNAUTHORIZED', 'Unauthorized')
}

function tooMany(seconds: number): ApiError {
  return new ApiError(429, 'TOO_MANY_FAILURES', 'Too many wrong keys from this address', {
    headers: { 'retry-after': String(seconds) },
  })
}
