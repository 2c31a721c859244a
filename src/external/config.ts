import * as v from 'valibot'
import { type ConfigSource, describe, pathOf } from '../config/resolve.ts'
import { locate, type TomlTable } from '../config/toml.ts'
import { messageOf } from '../errors.ts'
import { needsOf } from '../needs.ts'
import type { AnyPlugin } from '../plugin.ts'
import type { ExternalResult } from './load.ts'

/** A configuration without the parts that speak to plugins which cannot be used. */
export interface SetAside {
  readonly source: ConfigSource
  readonly externals: readonly ExternalResult[]
}

/**
 * Checks the tables of the plugins from outside, and takes a plugin whose table is wrong out of the
 * game, with everything the file says to it; otherwise one bad table would keep the daemon down.
 * The same goes for a file that did not load: its plugin's name is unknown, so a table or a listener
 * entry that names nobody is taken to be its own, and a warning says so.
 */
export function setAside(
  source: ConfigSource,
  externals: readonly ExternalResult[],
  builtins: readonly AnyPlugin[],
): SetAside {
  const tables = record(source.table.plugins)
  const checked = externals.map((result) =>
    'plugin' in result ? checkTable(result, tables[result.plugin.name], source) : result,
  )
  if (checked.every((result) => 'plugin' in result)) return { source, externals: checked }

  const usable = new Set(builtins.map(({ name }) => name))
  for (const result of checked) if ('plugin' in result) usable.add(result.plugin.name)
  const named = new Set(checked.flatMap((result) => ('error' in result ? (result.name ?? []) : [])))
  const nameless = checked.some((result) => 'error' in result && result.name === undefined)
  const orphans = new Set<string>()
  const keep = (name: string) => {
    if (usable.has(name)) return true
    if (named.has(name)) return false
    if (nameless) orphans.add(name)
    return !nameless
  }
  const table = structuredClone(source.table)
  if (table.plugins !== undefined) {
    table.plugins = Object.fromEntries(Object.entries(tables).filter(([name]) => keep(name)))
  }
  for (const listen of Array.isArray(table.listen) ? table.listen.map(record) : []) {
    if (!Array.isArray(listen.plugins)) continue
    listen.plugins = listen.plugins.filter((name) => typeof name !== 'string' || keep(name))
  }
  const warnings = [...orphans].map(
    (name) => `no plugin "${name}": what the configuration says to it is left aside`,
  )
  return {
    source: { ...source, table, warnings: [...source.warnings, ...warnings] },
    externals: checked,
  }
}

function checkTable(
  result: Extract<ExternalResult, { readonly plugin: AnyPlugin }>,
  given: unknown,
  source: ConfigSource,
): ExternalResult {
  const { plugin, file } = result
  const { enabled: _, ...table } = record(given)
  const fail = (what: string): ExternalResult => ({
    file,
    name: plugin.name,
    error: `Cannot configure the plugin "${plugin.name}" of ${file.path}: ${what}`,
  })
  try {
    const parsed = v.safeParse(plugin.config, table)
    if (parsed.success) {
      needsOf(plugin, parsed.output)
      return result
    }
    const issues = parsed.issues.map((issue: v.BaseIssue<unknown>) => {
      const path = ['plugins', plugin.name, ...pathOf(issue)]
      const at = locate(source.text, path)
      const line = at === undefined ? '' : ` (line ${at.line})`
      return `${path.join('.')}: ${describe(issue)}${line}`
    })
    return fail(issues.join('; '))
  } catch (error) {
    return fail(messageOf(error))
  }
}

function record(value: unknown): TomlTable {
  const table = typeof value === 'object' && value !== null && !Array.isArray(value)
  return table ? (value as TomlTable) : {}
}
