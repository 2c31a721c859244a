import type { Registry, Twin } from '../registry/registry.ts'

/** As long as the reference keeps a twin (spec §2). */
const KEPT_MS = 3_600_000

/** A twin that is not known may be registered any moment. */
const UNKNOWN_MS = 30_000

const MAX_TWINS = 1024

/** The registry's twins, asked for once. */
export interface Twins {
  /**
   * @returns Undefined when there is none of that id.
   * @throws {RegistryError}
   */
  get(id: number, signal: AbortSignal): Promise<Twin | undefined>
  /** Asks anew from now on. */
  forget(): void
}

export function createTwins(registry: Pick<Registry, 'twin'>): Twins {
  const kept = new Map<number, { readonly twin: Promise<Twin | undefined>; until: number }>()
  return {
    async get(id, signal) {
      const now = performance.now()
      const known = kept.get(id)
      if (known && known.until > now) return await known.twin
      const entry = { twin: registry.twin(id, signal), until: now + KEPT_MS }
      kept.delete(id)
      kept.set(id, entry)
      const [oldest] = kept.keys()
      if (kept.size > MAX_TWINS && oldest !== undefined) kept.delete(oldest)
      try {
        const twin = await entry.twin
        if (!twin) entry.until = now + UNKNOWN_MS
        return twin
      } catch (error) {
        if (kept.get(id) === entry) kept.delete(id)
        throw error
      }
    },
    forget: () => kept.clear(),
  }
}
