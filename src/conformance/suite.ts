import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createConsola } from 'consola/core'
import * as v from 'valibot'
import { NO_ATTESTER } from '../attester/none.ts'
import { within } from '../deadline.ts'
import { probe } from '../device/probe.ts'
import { messageOf } from '../errors.ts'
import { EventLog } from '../events/log.ts'
import { assertPlugin } from '../external/shape.ts'
import { NO_GPUS } from '../gpu/none.ts'
import { Metrics } from '../metrics.ts'
import { needsOf } from '../needs.ts'
import type { AnyPlugin } from '../plugin.ts'
import { setUp } from '../setup.ts'
import { type Check, type ConformanceOptions, parseConfig, type Subject } from './check.ts'
import { folderChecks, sampleTable } from './folder.ts'
import { lifecycleChecks } from './lifecycle.ts'
import { routeChecks } from './routes.ts'
import { shapeChecks } from './shape.ts'

/** What came of one check. */
export interface CheckResult {
  /** What must hold, as a sentence part: `setup is pure`. */
  readonly check: string
  readonly ok: boolean
  /** Why it failed, or what the check saw or had to leave out. */
  readonly detail: string
}

/** No check may hang the run. */
const CHECK_TIMEOUT_MS = 15_000

/**
 * Runs the contract every plugin keeps: shape, configuration, folder, purity of `setup`, life cycle,
 * routes, errors and permissions. Opens no listener; starts the plugin only where the machine has
 * what it requires.
 *
 * @param plugin The default export of a plugin module.
 * @returns One result per check; the first failing shape ends the run, as nothing else could be read.
 */
export async function testPlugin(
  plugin: unknown,
  options: ConformanceOptions = {},
): Promise<CheckResult[]> {
  const shape = 'the module exports a plugin of this contract version'
  try {
    assertPlugin(plugin)
  } catch (error) {
    return [{ check: shape, ok: false, detail: messageOf(error) }]
  }
  const scratch = mkdtempSync(join(tmpdir(), 'cvmd-plugin-test-'))
  try {
    const subject = await subjectOf(plugin, options, scratch)
    const results: CheckResult[] = [{ check: shape, ok: true, detail: plugin.name }]
    for (const check of [...shapeChecks, ...folderChecks, ...routeChecks, ...lifecycleChecks]) {
      results.push(await runCheck(check, subject))
    }
    return results
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

async function runCheck({ check, run }: Check, subject: Subject): Promise<CheckResult> {
  try {
    const seen = await within(CHECK_TIMEOUT_MS, (async () => run(subject))(), 'end')
    return { check, ok: true, detail: seen ?? '' }
  } catch (error) {
    return { check, ok: false, detail: messageOf(error) }
  }
}

async function subjectOf(
  plugin: AnyPlugin,
  options: ConformanceOptions,
  scratch: string,
): Promise<Subject> {
  const table = options.config ?? sampleTable(plugin.name, options.folder) ?? {}
  const checked = v.safeParse(plugin.config, table)
  const { requires } = needsOf(plugin, checked.success ? checked.output : undefined)
  const machine = await probe('/', [requires])
  const log = createConsola({ level: -999 })
  return {
    plugin,
    options,
    table,
    unmet: requires === undefined || machine.has(requires) ? undefined : machine.explain(requires),
    scratch,
    setUp(stateRoot = mkdtempSync(join(scratch, 'state-'))) {
      const config = parseConfig(plugin, table)
      const parts = {
        eventLog: new EventLog(),
        attestation: NO_ATTESTER,
        gpus: NO_GPUS,
        daemon: { plugins: () => [] },
        device: machine,
        metrics: new Metrics(),
        log,
        stateDir: stateRoot,
      }
      return setUp(plugin, config, parts, options.services ?? {})
    },
  }
}
