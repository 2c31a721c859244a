import type { KnownCollateral } from '../../../src/collateral/facts.ts'
import type { QuotedPlatform } from '../../../src/collateral/platform.ts'
import { TrustError } from '../../../src/collateral/trust-error.ts'
import { messageOf } from '../../../src/errors.ts'

/** Bounds of the cache; times in milliseconds. */
export interface CollateralCacheLimits {
  /** Platforms kept; the one asked about longest ago goes first. */
  readonly maxPlatforms: number
  /** Platforms that the service is asked about at a time. */
  readonly maxFetches: number
  /** How long collateral is used without asking again, if it is valid that long. */
  readonly lifeMs: number
  /** How long a failure is an answer. */
  readonly failureMs: number
}

/** Where collateral comes from, and with what it is kept. */
export interface CollateralCacheOptions {
  /** Gets collateral that is verified and valid now. */
  readonly fetch: (platform: QuotedPlatform, at: number) => Promise<KnownCollateral>
  /** Told why the service could not be used where something older still serves. */
  readonly log: (message: string) => void
  readonly limits?: Partial<CollateralCacheLimits>
}

/** Collateral by platform. */
export interface CollateralCache {
  /**
   * @param at Unix time in milliseconds.
   * @throws {TrustError} What `fetch` throws; `PCCS_BUSY`.
   */
  get(platform: QuotedPlatform, at: number): Promise<KnownCollateral>
}

const LIMITS: CollateralCacheLimits = {
  maxPlatforms: 64,
  maxFetches: 4,
  lifeMs: 24 * 3600 * 1000,
  failureMs: 10_000,
}

/** Failures remembered. They are small, and as many as strangers have platforms. */
const MAX_FAILURES = 256

interface Kept {
  readonly known: KnownCollateral
  readonly since: number
  /** From here on it is fetched again by the way, and from there on before it is used. */
  readonly staleFrom: number
  readonly freshUntil: number
}

interface Failure {
  readonly error: unknown
  readonly since: number
}

/**
 * Keeps what the service says until the first part of it is to be replaced, and at most a day. The
 * last quarter of that time it is used while it is fetched again; after it, only where the service
 * fails, and only as long as it is valid. Failures take nothing away.
 */
export function collateralCache({ fetch, log, ...rest }: CollateralCacheOptions): CollateralCache {
  const limits = { ...LIMITS, ...rest.limits }
  const kept = new Map<string, Kept>()
  const failures = new Map<string, Failure>()
  const fetching = new Map<string, Promise<KnownCollateral>>()

  /** One at a time for a platform; after a failure, its error for a while. */
  function fetched(key: string, platform: QuotedPlatform, at: number): Promise<KnownCollateral> {
    const running = fetching.get(key)
    if (running) return running
    const failure = failures.get(key)
    // The other way round, the clock was set back.
    if (failure && at >= failure.since && at - failure.since < limits.failureMs) {
      return Promise.reject(failure.error)
    }
    if (fetching.size >= limits.maxFetches) {
      const why = `${fetching.size} other platforms are being asked about`
      const message = `Cannot ask about platform ${platform.fmspc}: ${why}`
      return Promise.reject(new TrustError('PCCS_BUSY', message))
    }
    const started = fetchNewer(key, platform, at).finally(() => fetching.delete(key))
    fetching.set(key, started)
    return started
  }

  async function fetchNewer(
    key: string,
    platform: QuotedPlatform,
    at: number,
  ): Promise<KnownCollateral> {
    try {
      const known = await fetch(platform, at)
      const older = kept.get(key)?.known.facts
      if (older && known.facts.issued < older.issued && at < older.validUntil) {
        const why = 'it is older than what there was before'
        throw new TrustError('PCCS_UNVERIFIED', `Cannot use collateral of ${key}: ${why}`)
      }
      keep(key, known, at)
      failures.delete(key)
      return known
    } catch (error) {
      put(failures, key, { error, since: at }, MAX_FAILURES)
      log(messageOf(error))
      throw error
    }
  }

  function keep(key: string, known: KnownCollateral, at: number): void {
    const life = Math.min(limits.lifeMs, known.facts.validUntil - at)
    const entry = { known, since: at, staleFrom: at + 0.75 * life, freshUntil: at + life }
    put(kept, key, entry, limits.maxPlatforms)
  }

  return {
    async get(platform, at) {
      const key = `${platform.ca} ${platform.fmspc}`
      const found = kept.get(key)
      if (!found) return fetched(key, platform, at)
      // Used last.
      put(kept, key, found, limits.maxPlatforms)
      const { known, since, staleFrom, freshUntil } = found
      if (at >= since && at < staleFrom) return known
      const renewed = fetched(key, platform, at)
      const isValid = at < known.facts.validUntil
      if (at >= since && at < freshUntil) {
        // It was logged, and will be tried again.
        renewed.catch(() => undefined)
        return known
      }
      return isValid ? renewed.catch(() => known) : renewed
    },
  }
}

/** Adds what was used last, in place of what was used longest ago. */
function put<T>(map: Map<string, T>, key: string, value: T, most: number): void {
  map.delete(key)
  map.set(key, value)
  if (map.size <= most) return
  const [oldest] = map.keys()
  map.delete(oldest as string)
}
