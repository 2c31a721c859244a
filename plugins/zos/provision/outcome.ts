import { messageOf } from '../../../src/errors.ts'
import { DriverError } from '../drivers/driver.ts'
import type { Result, ResultState } from '../model.ts'

/** Characters of a message that are kept. */
const MAX_MESSAGE = 4096

/** Characters of result data that are kept; longer ones are not stored. */
const MAX_DATA = 64 * 1024

/** What came of a step of a driver. */
export interface Outcome {
  readonly state: ResultState | 'no-action'
  readonly message: string
  /** JSON text. */
  readonly data: string
  /** Whether it may succeed later without anybody doing something. */
  readonly transient: boolean
}

/** The outcome of driver work, which may throw whatever it likes. */
export async function outcomeOf(work: () => Promise<unknown>): Promise<Outcome> {
  try {
    return { state: 'ok', message: '', data: dataText(await work()), transient: false }
  } catch (error) {
    // By name: an external driver brings its own class.
    const known = error instanceof Error && error.name === 'DriverError'
    const { kind, data } = known ? (error as DriverError) : new DriverError('failed', '')
    const message = boundedMessage(messageOf(error) || 'the driver gave no reason')
    if (kind === 'no-action' || kind === 'unchanged') {
      return { state: kind, message, data: dataText(data), transient: false }
    }
    return { state: 'error', message, data: dataText(data), transient: kind === 'transient' }
  }
}

/** @param nowMs Milliseconds since 1970. */
export function resultOf({ state, message, data }: Outcome, nowMs: number): Result {
  if (state === 'no-action') throw new TypeError('There is no result without action')
  return { created: Math.floor(nowMs / 1000), state, message, data }
}

/** Whether two results differ in nothing but their time. */
export function sameResult(a: Result, b: Result): boolean {
  return a.state === b.state && a.message === b.message && a.data === b.data
}

/** As much of a message as is kept. */
export function boundedMessage(message: string): string {
  return message.length > MAX_MESSAGE ? `${message.slice(0, MAX_MESSAGE)}…` : message
}

function dataText(data: unknown): string {
  try {
    const text = JSON.stringify(data) ?? 'null'
    return text.length > MAX_DATA ? 'null' : text
  } catch {
    return 'null'
  }
}
