import { isIP } from 'node:net'
import { MAX_AUTHORIZATION } from '../../../src/auth/basic.ts'
import { parseBearer } from '../../../src/auth/key-token.ts'
import { addressGroup, Throttle } from '../../../src/auth/throttle.ts'
import { ApiError } from '../../../src/errors.ts'
import type { Exchange } from '../../../src/http/exchange.ts'
import { assertSameSite } from '../../../src/http/same-site.ts'
import { type OnboardToken, TOKEN_FILE } from './token.ts'

/** Who may set up a KMS. */
export interface AdmissionOptions {
  /** Undefined where everybody may who reaches the listener, as in the seed API. */
  readonly token: OnboardToken | undefined
  /** Names at which browsers may know this listener although there is no token. */
  readonly hosts?: ReadonlySet<string> | undefined
  /** Of wrong tokens, by address. */
  readonly throttle?: Throttle | undefined
}

/** Lets requests in, or throws. */
export interface Admission {
  readonly needsToken: boolean
  /**
   * @throws {ApiError} 403 `CROSS_SITE` or 421 `HOST_UNKNOWN` for what another site's page caused.
   */
  assertOwnPage(exchange: Exchange): void
  /**
   * Where a token is needed, it has to be in the header `Authorization: Bearer`.
   *
   * @throws {ApiError} 401 `UNAUTHORIZED`, 429 `TOO_MANY_FAILURES` with `Retry-After`.
   */
  assertBearer(exchange: Exchange): void
  /**
   * The same for a form's field.
   *
   * @param text Undefined or empty: none was given, which counts as no failure.
   */
  assertToken(exchange: Exchange, text: string | undefined): void
}

const BROWSER_HEADERS = ['origin', 'referer', 'sec-fetch-site']

export function admission({
  token,
  hosts = new Set(),
  throttle = new Throttle(),
}: AdmissionOptions): Admission {
  function assertToken(exchange: Exchange, text: string | undefined): void {
    if (!token) return
    if (text === undefined || text === '') throw unauthorized()
    const peer = addressGroup(exchange.peer().address)
    const seconds = throttle.wait(peer)
    if (seconds > 0) {
      const message = 'Too many wrong tokens from this address, see Retry-After'
      const headers = { 'retry-after': String(seconds) }
      throw new ApiError(429, 'TOO_MANY_FAILURES', message, { headers })
    }
    if (text.length <= MAX_AUTHORIZATION && token.matches(text)) return
    throttle.fail(peer)
    throw unauthorized()
  }
  return {
    needsToken: token !== undefined,
    assertToken,
    assertBearer(exchange) {
      const header = exchange.header('authorization')?.slice(0, MAX_AUTHORIZATION)
      // Another scheme's header is a try, too, and no token is one character long.
      assertToken(exchange, header && (parseBearer(header) ?? '-'))
    },
    assertOwnPage(exchange) {
      assertSameSite(exchange, 'POST', undefined)
      // Whoever owns a name can have it lead here, and then his pages are of the same site; he has
      // no token, but where none is needed only a name that is not his tells them apart.
      if (token || !BROWSER_HEADERS.some((name) => exchange.header(name) !== undefined)) return
      const host = exchange.header('host') ?? ''
      const name = host.replace(/:\d*$/, '').toLowerCase()
      const isAddress = isIP(name.replace(/^\[|\]$/g, '')) !== 0
      if (isAddress || name === 'localhost' || hosts.has(name)) return
      const remedy = 'open the page at its IP address, or require a token'
      const message = `Cannot serve pages of host ${JSON.stringify(host.slice(0, 64))}: ${remedy}`
      throw new ApiError(421, 'HOST_UNKNOWN', message)
    },
  }
}

function unauthorized(): ApiError {
  const where = `the file "${TOKEN_FILE}" in the plugin's state directory on that machine`
  return new ApiError(
    401,
    'UNAUTHORIZED',
    `Unauthorized: send the token in ${where} as "Authorization: Bearer TOKEN"`,
    { headers: { 'www-authenticate': 'Bearer realm="cvmd-onboarding"' } },
  )
}
