/** What the work gives, unless the signal aborts first; the work goes on then. */
export async function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  let end = () => {}
  const aborted = new Promise<never>((_, reject) => {
    end = () => reject(signal.reason)
    signal.addEventListener('abort', end)
  })
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', end)
  }
}

/** A signal that also aborts after a time. Its `end` has to be called. */
export function limited(
  signal: AbortSignal,
  ms: number,
  late: () => Error,
): { readonly signal: AbortSignal; readonly end: () => void } {
  const abort = new AbortController()
  const pass = () => abort.abort(signal.reason)
  if (signal.aborted) pass()
  signal.addEventListener('abort', pass)
  const timer = setTimeout(() => abort.abort(late()), ms)
  return {
    signal: abort.signal,
    end: () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', pass)
    },
  }
}
