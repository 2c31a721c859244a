/**
 * Gives work a deadline. The work itself goes on; only the waiting ends.
 *
 * @param late What did not happen in time: completes "it did not … within N ms", or makes the error.
 * @throws {Error} When the deadline passes first.
 */
export async function within<T>(
  ms: number,
  work: T | Promise<T>,
  late: string | (() => Error),
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const passed = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(typeof late === 'string' ? new Error(`it did not ${late} within ${ms} ms`) : late())
    }, ms)
  })
  try {
    return await Promise.race([work, passed])
  } finally {
    clearTimeout(timer)
  }
}
