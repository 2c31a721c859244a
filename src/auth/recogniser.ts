import type { Exchange } from '../http/exchange.ts'
import type { Caller } from '../plugin.ts'

/**
 * Says whom a connection by itself stands for; undefined where it shows nothing. Why what it shows
 * is refused is told to a client that has nothing else to show.
 */
export type Recogniser = (exchange: Exchange) => Recognised | undefined

export type Recognised = { readonly caller: Caller } | { readonly refused: string }

/** Looks up once whom something stands for that a connection keeps for its life. */
export function once<Shown extends object>(
  find: (shown: Shown) => Caller | undefined,
): (shown: Shown) => Caller | undefined {
  const known = new WeakMap<Shown, { readonly caller: Caller | undefined }>()
  return (shown) => {
    let found = known.get(shown)
    if (found === undefined) {
      found = { caller: find(shown) }
      known.set(shown, found)
    }
    return found.caller
  }
}
