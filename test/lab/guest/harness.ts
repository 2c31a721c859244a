/** A test runner for the guest: one test after the other, the same on all three runtimes. */

type Body = () => unknown

const tests: { readonly name: string; readonly body: Body }[] = []

/** Longest time of one test; generous, as the guest runs some twenty times slower. */
const LIMIT_MS = 120_000

/** Adds a test; they run in the order they were added. */
export function test(name: string, body: Body): void {
  tests.push({ name, body })
}

/**
 * Runs all tests whose name contains `only`, and prints a TAP line for each.
 *
 * @returns Whether all passed.
 */
export async function runTests(only: string): Promise<boolean> {
  const chosen = tests.filter(({ name }) => name.includes(only))
  let good = true
  console.log(`1..${chosen.length}`)
  for (const [index, { name, body }] of chosen.entries()) {
    const begun = performance.now()
    const failure = await failureOf(body)
    const seconds = ((performance.now() - begun) / 1000).toFixed(1)
    console.log(`${failure === undefined ? 'ok' : 'not ok'} ${index + 1} - ${name} # ${seconds} s`)
    if (failure === undefined) continue
    good = false
    for (const line of failure.split('\n')) console.log(`  ${line}`)
  }
  return good
}

async function failureOf(body: Body): Promise<string | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, failed) => {
    timer = setTimeout(() => failed(new Error(`no end within ${LIMIT_MS} ms`)), LIMIT_MS)
  })
  try {
    await Promise.race([body(), late])
    return undefined
  } catch (error) {
    return error instanceof Error ? (error.stack ?? String(error)) : String(error)
  } finally {
    clearTimeout(timer)
  }
}
