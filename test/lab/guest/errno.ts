import assert from 'node:assert/strict'
import { errnoOf } from '../../../src/errors.ts'

/** Expects a call of the kernel to fail with this errno. */
export async function fails(errno: string, call: () => unknown): Promise<void> {
  try {
    await call()
  } catch (error) {
    assert.equal(errnoOf(error) ?? error, errno)
    return
  }
  assert.fail(`expected ${errno}, it succeeded`)
}
