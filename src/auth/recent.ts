import { createHash, randomBytes } from 'node:crypto'
import type { Caller } from '../plugin.ts'

/** Answers remembered; the oldest goes first. */
const MAX_ENTRIES = 1024

/** How long an answer is remembered, in milliseconds. */
const TTL_MS = 10 * 60 * 1000

interface Entry {
  readonly caller: Caller
  readonly revision: number
  readonly until: number
}

/**
 * Callers whose credentials were found good a short while ago, so that the next request costs one
 * hash, and so that they pass while somebody else behind the same address is locked out.
 *
 * An entry belongs to a peer and a header: were it the header alone, a locked-out peer could try
 * guesses against everybody's entries. Headers are kept only as SHA-256 over a random key of this
 * process and the text. The digest never leaves the process, so a plain keyed hash does, at half
 * the price of HMAC; looking it up in a map tells nothing to somebody who cannot compute it.
 */
export class RecentCallers {
  readonly #key = randomBytes(32).toString('hex')
  readonly #now: () => number
  readonly #entries = new Map<string, Entry>()

  /** @param now Monotonic milliseconds. */
  constructor(now: () => number) {
    this.#now = now
  }

  get size(): number {
    return this.#entries.size
  }

  /** The name under which an answer for this peer and header is remembered. */
  tag(peer: string, header: string): string {
    return createHash('sha256').update(`${this.#key}${peer}\n${header}`).digest('hex')
  }

  /** The remembered caller, unless credentials changed (`revision`) since. */
  get(tag: string, revision: number): Caller | undefined {
    const entry = this.#entries.get(tag)
    if (entry === undefined) return undefined
    if (entry.revision === revision && entry.until > this.#now()) return entry.caller
    this.#entries.delete(tag)
    return undefined
  }

  set(tag: string, revision: number, caller: Caller): void {
    this.#entries.set(tag, { caller, revision, until: this.#now() + TTL_MS })
    if (this.#entries.size <= MAX_ENTRIES) return
    const [oldest] = this.#entries.keys()
    this.#entries.delete(oldest as string)
  }
}
