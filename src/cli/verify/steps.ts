import { EvidenceError } from '../../attest/evidence-error.ts'
import { toHex } from '../../attest/hex.ts'
import type { Step } from '../../attest/verdict.ts'

export const passed = (name: string, detail: string): Step => ({ name, outcome: 'passed', detail })

export const skipped = (name: string, detail: string): Step => ({
  name,
  outcome: 'skipped',
  detail,
})

export const failed = (name: string, code: string, detail: string): Step => ({
  name,
  outcome: 'failed',
  detail,
  code,
})

/** Runs a check that reads evidence; what cannot be read is a failed step with the reader's code. */
export function attempt(name: string, check: () => readonly Step[]): readonly Step[] {
  try {
    return check()
  } catch (error) {
    if (error instanceof EvidenceError) return [failed(name, error.code, error.message)]
    throw error
  }
}

/** Whether a member of an answer is the hex of these bytes. */
export function sameHex(text: unknown, bytes: Uint8Array): boolean {
  return typeof text === 'string' && text.toLowerCase() === toHex(bytes)
}

/** Report data as a quote holds them: 64 bytes, filled up with zeros; longer ones as they are. */
export function padded(bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array(Math.max(64, bytes.length))
  whole.set(bytes)
  return whole
}
