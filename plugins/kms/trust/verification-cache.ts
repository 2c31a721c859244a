import { toApiError } from '../../../src/errors.ts'
import type { VerifiedEvidence } from './verified-evidence.ts'

/** Bounds of the cache, and its clock. */
export interface VerificationCacheOptions {
  /** Peers kept that were verified, and as many again that were refused. */
  readonly maxEntries?: number | undefined
  /** How long what was found counts, in milliseconds. */
  readonly lifeMs?: number
  /** Unix time in milliseconds. */
  readonly now?: () => number
}

/** What was found about peers, by their certificates. */
export interface VerificationCache {
  /**
   * What is known of a peer, or is being found out; otherwise starts to find out.
   *
   * @param fingerprint SHA-256 of the certificate whose key the peer has proved.
   * @param verify What it throws, or rejects with, is thrown; a 401 is also kept.
   */
  of(fingerprint: string, verify: () => Promise<VerifiedEvidence>): Promise<VerifiedEvidence>
}

interface Entry {
  readonly found: Promise<VerifiedEvidence>
  readonly since: number
  readonly until: number
}

/**
 * Remembers for a minute who is who, also of those who were refused, and never longer than their
 * certificate is valid. The two kinds do not push each other out: anybody can make certificates
 * that are refused. Faults that are not the peer's may be mended with his next request, and are
 * not kept.
 */
export function verificationCache({
  maxEntries = 1024,
  lifeMs = 60_000,
  now = Date.now,
}: VerificationCacheOptions = {}): VerificationCache {
  const accepted = new Map<string, Entry>()
  const refused = new Map<string, Entry>()
  const pending = new Map<string, Promise<VerifiedEvidence>>()

  function known(map: Map<string, Entry>, key: string): Promise<VerifiedEvidence> | undefined {
    const entry = map.get(key)
    if (!entry) return undefined
    map.delete(key)
    const at = now()
    // Before its beginning, the clock was set back.
    if (at < entry.since || at >= entry.until) return undefined
    map.set(key, entry)
    return entry.found
  }

  function keep(map: Map<string, Entry>, key: string, entry: Entry): void {
    map.delete(key)
    if (entry.until <= entry.since) return
    map.set(key, entry)
    if (map.size <= maxEntries) return
    const [oldest] = map.keys()
    map.delete(oldest as string)
  }

  return {
    async of(key, verify) {
      const already = known(accepted, key) ?? known(refused, key) ?? pending.get(key)
      if (already) return already
      const found = verify()
      pending.set(key, found)
      try {
        const { validUntil = Number.POSITIVE_INFINITY } = await found
        const since = now()
        keep(accepted, key, { found, since, until: Math.min(since + lifeMs, validUntil) })
      } catch (error) {
        const since = now()
        if (toApiError(error).status === 401) {
          keep(refused, key, { found, since, until: since + lifeMs })
        }
      } finally {
        pending.delete(key)
      }
      return found
    },
  }
}
