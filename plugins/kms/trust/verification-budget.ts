import { addressGroup } from '../../../src/auth/throttle.ts'
import { ApiError } from '../../../src/errors.ts'

/** How often something may be done: so many times at once, then so many times a second. */
export interface Rate {
  readonly burst: number
  readonly perSecond: number
}

/** How much work strangers may cause. */
export interface VerificationLimits {
  /** Each IPv4 address, and each /64 of IPv6. */
  readonly perPeer: Rate
  readonly all: Rate
  /** Addresses remembered; the one that asked longest ago goes first. */
  readonly maxPeers: number
}

/** Pays for looking at what strangers send. */
export interface VerificationBudget {
  /**
   * @param address The peer's; without one, all are taken for one peer.
   * @throws {ApiError} 429 `RATE_LIMITED` with `retry-after`, when nothing is left; this costs
   *   nothing.
   */
  spend(address: string | undefined): void
}

/**
 * So much each second, and that of so many seconds at once: a rack that starts together has its
 * burst, also behind one address.
 */
export function verificationLimits(
  perSecond: number,
  perSecondPerPeer: number,
): VerificationLimits {
  return {
    perPeer: { burst: 10 * perSecondPerPeer, perSecond: perSecondPerPeer },
    all: { burst: 5 * perSecond, perSecond },
    maxPeers: 4096,
  }
}

/**
 * Verifying takes 3 to 7 ms, so that all together may use less than half of a core, and one peer a
 * tenth of it.
 */
export const VERIFICATION_LIMITS = verificationLimits(60, 10)

/** @param clock Monotonic milliseconds. */
export function verificationBudget(
  { perPeer, all, maxPeers }: VerificationLimits = VERIFICATION_LIMITS,
  clock: () => number = () => performance.now(),
): VerificationBudget {
  /** When each has all of its burst again; who is missing has it now. In order of the last use. */
  const peers = new Map<string, number>()
  let whole = Number.NEGATIVE_INFINITY
  return {
    spend(address) {
      const now = clock()
      const peer = addressGroup(address ?? '')
      const [nextOfPeer, nextOfAll] = [spent(peers.get(peer), perPeer, now), spent(whole, all, now)]
      const wait = Math.max(nextOfPeer - now - msOf(perPeer), nextOfAll - now - msOf(all))
      if (wait > 0) throw limited(Math.ceil(wait / 1000))
      whole = nextOfAll
      peers.delete(peer)
      peers.set(peer, nextOfPeer)
      if (peers.size <= maxPeers) return
      const [oldest] = peers.keys()
      peers.delete(oldest as string)
    },
  }
}

/** When it is all there again after one more. */
const spent = (full: number | undefined, { perSecond }: Rate, now: number): number =>
  Math.max(full ?? now, now) + 1000 / perSecond

/** How long an empty bucket takes to be full. */
const msOf = ({ burst, perSecond }: Rate): number => (burst * 1000) / perSecond

function limited(seconds: number): ApiError {
  const message = `Too many verifications: try again in ${seconds} s`
  return new ApiError(429, 'RATE_LIMITED', message, { headers: { 'retry-after': String(seconds) } })
}
