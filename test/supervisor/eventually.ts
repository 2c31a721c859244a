import assert from 'node:assert/strict'

const WAIT_MS = 30_000
const STEP_MS = 20

/**
 * Looks until it is so, 30 s at most.
 *
 * @param look What it throws counts as not so.
 * @throws {AssertionError} With what was found last.
 */
export async function eventually<T>(
  what: string,
  look: () => T | Promise<T>,
  isSo: (found: T) => boolean,
  ms = WAIT_MS,
): Promise<T> {
  const deadline = performance.now() + ms
  for (;;) {
    let last: string
    try {
      const found = await look()
      if (isSo(found)) return found
      last = JSON.stringify(found) ?? 'nothing'
    } catch (error) {
      last = String(error)
    }
    assert.ok(performance.now() < deadline, `Not within ${ms} ms: ${what}; ${last.slice(0, 4000)}`)
    await new Promise((tick) => setTimeout(tick, STEP_MS))
  }
}
