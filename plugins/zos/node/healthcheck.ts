import { within } from '../../../src/deadline.ts'
import { messageOf } from '../../../src/errors.ts'

/** Looks after one thing; gives what is wrong with it, nothing when all is well. */
export type HealthCheck = (signal: AbortSignal) => readonly string[] | Promise<readonly string[]>

/** Result of `healthcheck` (spec §9.7): what is wrong, by the name of the check. */
export type Health = Readonly<Record<string, readonly string[]>>

const DEADLINE_MS = 30_000
const MAX_ERRORS = 100
const MAX_CHARACTERS = 1000

/** Runs all checks at one time, each with a deadline; one that fails is wrong itself. */
export async function runHealthchecks(
  checks: Readonly<Record<string, HealthCheck>>,
  signal: AbortSignal,
): Promise<Health> {
  const entries = Object.entries(checks).map(async ([name, check]) => {
    const errors = await run(check, signal).catch((error) => [messageOf(error)])
    const texts = errors.slice(0, MAX_ERRORS).map((text) => text.slice(0, MAX_CHARACTERS))
    return [name, texts] as const
  })
  return Object.fromEntries(await Promise.all(entries))
}

async function run(check: HealthCheck, signal: AbortSignal): Promise<readonly string[]> {
  const own = new AbortController()
  let give = () => {}
  const stopped = new Promise<never>((_resolve, reject) => {
    give = () => reject(new Error('it was stopped'))
    signal.addEventListener('abort', give)
  })
  try {
    signal.throwIfAborted()
    const done = check(AbortSignal.any([signal, own.signal]))
    return await within(DEADLINE_MS, Promise.race([done, stopped]), 'finish')
  } finally {
    signal.removeEventListener('abort', give)
    own.abort()
  }
}
