/**
 * Gives work a deadline. The work itself goes on; only the waiting ends.
 *
 * @param what Completes "did not … within N ms".
 * @throws {Error} When the deadline passes first.
 */
export async function within<T>(ms: number, work: T | Promise<T>, what: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`it did not ${what} within ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
