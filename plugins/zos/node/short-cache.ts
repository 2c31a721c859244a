/**
 * Gives what `look` found within the last `maxAgeMs`, and lets calls at one time share one look. A
 * failure is not kept.
 *
 * @param maxAgeMs 0 only shares.
 * @param now Monotonic milliseconds.
 */
export function shortCache<T>(
  look: () => Promise<T>,
  maxAgeMs: number,
  now: () => number = () => performance.now(),
): () => Promise<T> {
  let known: { readonly value: T; readonly at: number } | undefined
  let looking: Promise<T> | undefined
  const again = async () => {
    try {
      const value = await look()
      if (maxAgeMs > 0) known = { value, at: now() }
      return value
    } finally {
      looking = undefined
    }
  }
  return () => {
    if (known && now() - known.at < maxAgeMs) return Promise.resolve(known.value)
    looking ??= again()
    return looking
  }
}
