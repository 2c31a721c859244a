import { isDeepStrictEqual } from 'node:util'
import * as v from 'valibot'
import { describe, pathOf } from '../config/resolve.ts'
import type { AnyPlugin, Services } from '../plugin.ts'
import type { SetUpPlugin } from '../setup.ts'

/** How a plugin is to be tested. */
export interface ConformanceOptions {
  /** The plugin's folder, with README.md and config.sample.toml; absent: these are not checked. */
  readonly folder?: string
  /** A plugin of this repository: named like its folder, and free to claim any path. */
  readonly builtin?: boolean
  /** Its configuration table for the checks that set it up. Default: its sample, else `{}`. */
  readonly config?: unknown
  /** Services of other plugins it uses. */
  readonly services?: Partial<Services>
}

/** One check: gives what it saw, or throws with what is wrong. */
export interface Check {
  readonly check: string
  run(subject: Subject): string | undefined | Promise<string | undefined>
}

/** What the checks look at. */
export interface Subject {
  readonly plugin: AnyPlugin
  readonly options: ConformanceOptions
  /** The table its configuration is parsed from. */
  readonly table: unknown
  /** Why it cannot start on this machine, or undefined. */
  readonly unmet: string | undefined
  /** A folder for this test alone; removed at the end. */
  readonly scratch: string
  /** Sets the plugin up anew; its state folder would be in `stateRoot`, by default a fresh one. */
  setUp(stateRoot?: string): SetUpPlugin
}

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
