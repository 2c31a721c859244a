const LEAST_MS = 1000
const MOST_MS = 60_000

/**
 * How long to wait before the next attempt, in milliseconds: from a second to twice as long with
 * each failure and a minute at most, anywhere in between, so that machines that lost their KMS
 * together do not come back to it together.
 *
 * @param failures How many attempts failed so far, at least one.
 * @param random From 0 to 1.
 */
export function backoffMs(failures: number, random: () => number = Math.random): number {
  const most = Math.min(MOST_MS, LEAST_MS * 2 ** Math.min(failures, 16))
  return LEAST_MS + random() * (most - LEAST_MS)
}
