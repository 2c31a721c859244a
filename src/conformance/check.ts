import { isDeepStrictEqual } from 'node:util'
import * as v from 'valibot'
import { describe, pathOf } from '../config/resolve.ts'
import type { AnyPlugin } from '../plugin.ts'

/** Fails the running check. */
export function fail(why: string): never {
  throw new Error(why)
}

/** Fails the running check unless the list of complaints is empty. */
export function failAny(complaints: readonly string[]): void {
  if (complaints.length > 0) fail(complaints.join('; '))
}

/**
 * A plugin's configuration from its table.
 *
 * @throws {Error} Naming every wrong key.
 */
export function parseConfig(plugin: AnyPlugin, table: unknown): unknown {
  const parsed = v.safeParse(plugin.config, table)
  if (parsed.success) return parsed.output
  const issues = parsed.issues.map(
    (issue: v.BaseIssue<unknown>) =>
      `${pathOf(issue).join('.') || 'the table'}: ${describe(issue)}`,
  )
  return fail(issues.join('; '))
}

/** Whether two configurations are the same, whatever classes their values have. */
export function sameConfig(a: unknown, b: unknown): boolean {
  return isDeepStrictEqual(a, b)
}
