import assert from 'node:assert/strict'
import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

/** Whether a program is on the path. */
export function installed(program: string): boolean {
  return (process.env.PATH ?? '').split(':').some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/**
 * Skips a test whose counterpart is not here, saying which, or fails it where `CVMD_REQUIRE`
 * (names, separated by commas) demands it, as CI does.
 *
 * @param present Default: whether a program of this name is installed.
 * @returns Whether the test has to return.
 */
export function lacks(t: TestContext, name: string, present = installed(name)): boolean {
  if (present) return false
  const required = (process.env.CVMD_REQUIRE ?? '').split(',').includes(name)
  assert.ok(!required, `CVMD_REQUIRE names ${name}, but it is not here`)
  t.skip(`needs ${name}`)
  return true
}
