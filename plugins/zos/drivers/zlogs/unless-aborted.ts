/** Waits for work no longer than until the signal aborts. The work itself goes on. */
export function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const aborted = () => reject(signal.reason)
    const settled = () => signal.removeEventListener('abort', aborted)
    signal.addEventListener('abort', aborted)
    work.then(resolve, reject).finally(settled)
    if (signal.aborted) aborted()
  })
}
