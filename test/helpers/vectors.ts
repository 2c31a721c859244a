import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'

/**
 * A folder of the test data that is shared between projects and kept beside this one, in
 * `../shared/vectors`.
 *
 * @param name `tdx`, `dstack`, `nitro`, …
 * @returns Undefined where it is not there; the project's own data in `test/fixtures/` remain.
 */
export function vectors(name: string): string | undefined {
  const folder = join(resolve(import.meta.dirname, '../../..'), 'shared', 'vectors', name)
  return existsSync(folder) ? folder : undefined
}
