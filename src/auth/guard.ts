import { ApiError } from '../errors.ts'
import { ANONYMOUS, type Exchange } from '../http/exchange.ts'
import type { Caller } from '../plugin.ts'
import { BASIC_USER, MAX_AUTHORIZATION, parseBasic } from './basic.ts'
import { parseBearer } from './key-token.ts'
import type { KeyStore } from './keys.ts'
import type { PasswordStore } from './password.ts'
import { RecentCallers } from './recent.ts'
import type { Recogniser } from './recogniser.ts'
import { peerGroup, type Throttle } from './throttle.ts'

/** Establishes who sends a request, for one listener. */
export interface Guard {
  /**
   * @throws {ApiError} 401 `UNAUTHORIZED` with a challenge, or 429 `TOO_MANY_FAILURES` with
   *   `Retry-After`.
   */
  authenticate(exchange: Exchange): Caller
}

/** The guard of a listener with `auth = "none"`. */
export const OPEN: Guard = { authenticate: () => ANONYMOUS }

/** The ways a listener may accept. */
export type AuthMethod = 'basic' | 'key' | 'certificate' | 'peer'

/** What a guard of one listener is made of. */
export interface GuardOptions {
  /** At least one; each needs its store below. */
  readonly methods: readonly AuthMethod[]
  readonly passwords?: PasswordStore | undefined
  readonly keys?: KeyStore | undefined
  /** Asked first on each request. */
  readonly certificate?: Recogniser | undefined
  /** Asked where there is no certificate. */
  readonly peer?: Recogniser | undefined
  /** Shared by all listeners. */
  readonly throttle: Throttle
  /** Shown in the challenge; system-api's is `system-api`. */
  readonly realm: string
  /**
   * system-api's rule: until the first password is set every request passes, whatever credentials
   * it carries. Without it `basic` refuses everybody until a password is set.
   */
  readonly openUntilSet?: boolean
  /** Monotonic milliseconds; replaced in tests. */
  readonly now?: () => number
}

const ADMIN: Caller = { kind: 'basic', name: BASIC_USER, scopes: ['*'] }

/**
 * A guard that accepts the given methods:
 *
 * - `certificate`, `peer`: whomever the function recognises; no header is looked at then.
 * - `basic`: user `admin` with the password of the store, granted everything.
 * - `key`: `Authorization: Bearer TOKEN`, or Basic with the token as the password and any user but
 *   `admin` (`curl -u key:$TOKEN`), granted the key's scopes.
 *
 * Credentials that were found good within ten minutes cost one hash, and pass during a lock-out of
 * their address, so that a noisy neighbour does not lock out the others. The price: who shares the
 * address with an active caller is not slowed down in guessing that caller's password. Keys have
 * 256 random bits and do not care; choose a password that does not either.
 *
 * @throws {TypeError} When a method lacks its store, or the realm needs quoting.
 */
export function createGuard(options: GuardOptions): Guard {
  const { throttle, openUntilSet = false } = options
  const passwords = part('basic', options.passwords, options.methods)
  const keys = part('key', options.keys, options.methods)
  const certificate = part('certificate', options.certificate, options.methods)
  const peer = part('peer', options.peer, options.methods)
  if (options.methods.length === 0) throw new TypeError('Cannot build a guard without a method')
  const challenge = challengeFor(options.methods, options.realm)
  const recent = new RecentCallers(options.now ?? (() => performance.now()))

  function check(header: string): Caller | undefined {
    const basic = parseBasic(header)
    if (basic === undefined) return keys?.verify(parseBearer(header) ?? '')
    // Each store does its whole work for every user name: the time must not tell names apart.
    const admin = passwords?.verify(basic.password) ?? false
    const key = keys?.verify(Buffer.from(basic.password).toString('latin1'))
    if (basic.user !== BASIC_USER) return key
    return admin ? ADMIN : undefined
  }

  return {
    authenticate(exchange) {
      const shown = certificate?.(exchange) ?? peer?.(exchange)
      if (shown && 'caller' in shown) return shown.caller
      if (openUntilSet && passwords?.isSet === false) return ANONYMOUS
      const header = exchange.header('authorization')
      // Nothing was guessed, so nothing is counted: clients ask for the challenge this way.
      if (header === undefined) throw unauthorized(challenge, shown?.refused)
      const group = peerGroup(exchange)
      if (header.length <= MAX_AUTHORIZATION) {
        const tag = recent.tag(group, header)
        // Both only grow, so the sum changes exactly when one does.
        const revision = (passwords?.revision ?? 0) + (keys?.revision ?? 0)
        const known = recent.get(tag, revision)
        if (known !== undefined) return known
        assertMayTry(throttle, group)
        const caller = check(header)
        if (caller !== undefined) {
          recent.set(tag, revision, caller)
          return caller
        }
      }
      throttle.fail(group)
      throw unauthorized(challenge)
    },
  }
}

function part<T>(
  method: AuthMethod,
  value: T | undefined,
  methods: readonly AuthMethod[],
): T | undefined {
  if (!methods.includes(method)) return undefined
  if (value === undefined) throw new TypeError(`Cannot accept "${method}": nothing verifies it`)
  return value
}

function challengeFor(methods: readonly AuthMethod[], realm: string): string {
  if (!/^[\x20!\x23-\x5b\x5d-\x7e]*$/.test(realm)) {
    throw new TypeError(`Cannot use the realm "${realm}": it must be plain ASCII without quotes`)
  }
  const schemes: string[] = []
  if (methods.includes('basic')) schemes.push(`Basic realm="${realm}"`)
  if (methods.includes('key')) schemes.push(`Bearer realm="${realm}"`)
  return schemes.join(', ')
}

function assertMayTry(throttle: Throttle, peer: string): void {
  const seconds = throttle.wait(peer)
  if (seconds === 0) return
  // The seconds stay out of the message, so that repeated refusals read the same in the event log.
  throw new ApiError(
    429,
    'TOO_MANY_FAILURES',
    'Too many failed logins from this address, see Retry-After',
    { headers: { 'retry-after': String(seconds) } },
  )
}

/** @param refused What a client without credentials in a header showed in vain. */
function unauthorized(challenge: string, refused?: string): ApiError {
  const headers: Record<string, string> = challenge === '' ? {} : { 'www-authenticate': challenge }
  // What was shown stays the same on this connection, whatever becomes of it.
  if (refused !== undefined) headers.connection = 'close'
  return new ApiError(401, 'UNAUTHORIZED', refused ?? 'Unauthorized', { headers })
}
