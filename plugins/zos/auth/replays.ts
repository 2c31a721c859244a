import { createHash } from 'node:crypto'
import { ZosError } from '../zos-error.ts'
import { CHALLENGE_SECONDS, CHALLENGE_SKEW, type Challenge } from './challenge.ts'
import { refusal } from './refusal.ts'

/** Challenges of one twin that are remembered at once. */
const MAX_PER_TWIN = 128

/** Challenges of all twins. */
const MAX_ALL = 16_384

/** How long it matters what was signed before the start, in milliseconds. */
const START_MS = (CHALLENGE_SECONDS + CHALLENGE_SKEW) * 1000

interface Seen {
  readonly twinId: number
  readonly timestamp: number
}

export interface Clocks {
  /** Milliseconds since 1970. */
  wall(): number
  /** Milliseconds that only go forward. */
  monotonic(): number
}

/**
 * Lets each signed challenge change something once. An `X-Auth` header does not say what it is for,
 * so whoever saw one could otherwise use it for a command of their own until it expires.
 *
 * What is forgotten is never taken again, however the clock is set: nothing that was signed at or
 * before the latest forgotten challenge passes, nor, just after the start, before the start.
 */
export class Replays {
  readonly #clocks: Clocks
  readonly #startedWall: number
  readonly #startedMonotonic: number
  /** By digest of challenge and signature, in the order of their coming. */
  readonly #seen = new Map<string, Seen>()
  readonly #perTwin = new Map<number, number>()
  /** Latest timestamp of what was forgotten, in seconds. */
  #forgotten = 0

  constructor(clocks: Clocks) {
    this.#clocks = clocks
    this.#startedWall = Math.floor(clocks.wall() / 1000)
    this.#startedMonotonic = clocks.monotonic()
  }

  /** Challenges remembered just now. */
  get size(): number {
    return this.#seen.size
  }

  /**
   * Takes a challenge whose time and signature are good.
   *
   * @throws {ZosError} `authentication` when it may have been used; `unavailable` when its twin uses
   *   too many.
   */
  take({ twinId, timestamp, signed, signature }: Challenge): void {
    const now = Math.floor(this.#clocks.wall() / 1000)
    this.#forgetExpired(now)
    const digest = createHash('sha256').update(signed).update(signature).digest('base64')
    if (this.#seen.has(digest)) throw used('it was used before')
    if (timestamp <= this.#forgotten) throw used('it may have been used before the clock was set')
    const running = this.#clocks.monotonic() - this.#startedMonotonic
    if (running < START_MS && timestamp < this.#startedWall) {
      throw used('it may have been used before the daemon started')
    }
    const count = this.#perTwin.get(twinId) ?? 0
    if (count >= MAX_PER_TWIN) {
      throw new ZosError(
        'unavailable',
        `twin ${twinId} changed something ${MAX_PER_TWIN} times within a minute, wait a little`,
      )
    }
    this.#perTwin.set(twinId, count + 1)
    this.#seen.set(digest, { twinId, timestamp })
    if (this.#seen.size > MAX_ALL) this.#forgetOldest()
  }

  #forgetExpired(now: number): void {
    // They come about in the order in which they were signed, so the first that is good ends it.
    for (const [digest, seen] of this.#seen) {
      if (now - seen.timestamp <= CHALLENGE_SECONDS) return
      this.#forget(digest, seen)
    }
  }

  #forgetOldest(): void {
    const [first] = this.#seen
    if (first) this.#forget(...first)
  }

  #forget(digest: string, { twinId, timestamp }: Seen): void {
    this.#seen.delete(digest)
    this.#forgotten = Math.max(this.#forgotten, timestamp)
    const left = (this.#perTwin.get(twinId) ?? 1) - 1
    if (left === 0) this.#perTwin.delete(twinId)
    else this.#perTwin.set(twinId, left)
  }
}

function used(why: string): ZosError {
  return refusal(`X-Auth must be signed anew for each change: ${why}`)
}
