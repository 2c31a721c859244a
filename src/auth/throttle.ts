import type { Exchange } from '../http/exchange.ts'

/** How many failed logins a peer has, and how many peers are remembered. */
export interface ThrottleLimits {
  /** Failures in a row before the peer has to wait. */
  readonly burst: number
  /** One more try per this many milliseconds after that. */
  readonly intervalMs: number
  /** Peers remembered; the one whose last failure is oldest goes first. */
  readonly maxPeers: number
}

export const DEFAULT_THROTTLE: ThrottleLimits = { burst: 10, intervalMs: 6000, maxPeers: 10_000 }

/**
 * Slows down guessing: each peer may fail `burst` times, then once per interval. One instance
 * serves all listeners, so that a second listener is not a second set of tries.
 *
 * A success does not forgive failures: a caller with one valid key could otherwise guess others
 * without end. Peers cost one number each (the time at which all their failures are forgiven), and
 * a peer nobody remembers has simply not failed.
 */
export class Throttle {
  readonly #limits: ThrottleLimits
  readonly #now: () => number
  /** Peer → when its failures are forgiven, in order of the last failure. */
  readonly #forgiven = new Map<string, number>()

  /** @param now Monotonic milliseconds. */
  constructor(limits: ThrottleLimits = DEFAULT_THROTTLE, now: () => number = performanceNow) {
    this.#limits = limits
    this.#now = now
  }

  /** Peers remembered just now. */
  get size(): number {
    return this.#forgiven.size
  }

  /** Seconds until this peer may try again, rounded up; 0 when it may now. */
  wait(peer: string): number {
    const forgiven = this.#forgiven.get(peer)
    if (forgiven === undefined) return 0
    const { burst, intervalMs } = this.#limits
    const ms = forgiven - (burst - 1) * intervalMs - this.#now()
    return ms > 0 ? Math.ceil(ms / 1000) : 0
  }

  /** Records a failed try. */
  fail(peer: string): void {
    const now = this.#now()
    const forgiven = Math.max(this.#forgiven.get(peer) ?? 0, now) + this.#limits.intervalMs
    this.#forgiven.delete(peer)
    this.#forgiven.set(peer, forgiven)
    if (this.#forgiven.size <= this.#limits.maxPeers) return
    const [oldest] = this.#forgiven.keys()
    this.#forgiven.delete(oldest as string)
  }
}

/**
 * Who shares a count of failures: an IPv4 address, an IPv6 /64 (what one subscriber gets), or all
 * callers of one Unix socket.
 */
export function peerGroup(exchange: Exchange): string {
  const { address } = exchange.peer()
  return address === 'unix' ? exchange.listener : addressGroup(address)
}

/** An IPv4 address as it is, IPv4 in IPv6 as IPv4, any other IPv6 address as its /64. */
export function addressGroup(address: string): string {
  if (!address.includes(':')) return address
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)
  if (mapped) return mapped[1] as string
  const [head = '', tail] = address.split('::')
  const groups = head === '' ? [] : head.split(':')
  if (tail !== undefined) {
    const after = tail === '' ? 0 : tail.split(':').length
    while (groups.length < 8 - after) groups.push('0')
    groups.push(...tail.split(':'))
  }
  const prefix = groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16))
  return `${prefix.join(':')}::/64`
}

function performanceNow(): number {
  return performance.now()
}
