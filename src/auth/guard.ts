import { ANONYMOUS, type Exchange } from '../exchange.ts'
import type { Caller } from '../plugin.ts'

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
