import { parse, type TomlPrimitive } from 'smol-toml'
import type { TomlTable } from './toml.ts'

const PREFIX = 'CVMD_'

/** Variables that steer the client or the tests, not the daemon's configuration. */
const NOT_CONFIG = new Set([
  'CVMD_SOCKET',
  'CVMD_TOKEN',
  'CVMD_REQUIRE',
  'CVMD_TEST_RUNTIME',
  'CVMD_TEST_BINARY',
])

/**
 * Lays environment overrides over a parsed file: `CVMD_PLUGINS__EVENTLOG__MAX_ENTRIES=500` sets
 * `plugins.eventlog.max_entries`. A value is read as TOML where it is TOML (`500`, `true`,
 * `["a"]`, `"500"`), else as a string.
 *
 * @returns A new table; the given one is not changed.
 */
export function applyEnv(
  table: TomlTable,
  env: Readonly<Record<string, string | undefined>>,
): TomlTable {
  const result = structuredClone(table)
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith(PREFIX) || NOT_CONFIG.has(name) || value === undefined) continue
    set(result, name.slice(PREFIX.length).toLowerCase().split('__'), parseValue(value))
  }
  return result
}

function set(table: TomlTable, path: readonly string[], value: TomlPrimitive): void {
  const [key, ...rest] = path
  if (key === undefined || key === '' || key === '__proto__') return
  if (rest.length === 0) {
    table[key] = value
    return
  }
  const next = table[key]
  const child = Array.isArray(next) || (typeof next === 'object' && !(next instanceof Date))
  if (!child) table[key] = {}
  set(table[key] as TomlTable, rest, value)
}

function parseValue(text: string): TomlPrimitive {
  try {
    return parse(`value = ${text}`).value ?? text
  } catch {
    return text
  }
}
