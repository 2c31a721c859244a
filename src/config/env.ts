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

/** Variables of APIs that plugins mirror; what the file says goes before. */
const MIRRORED: Readonly<Record<string, readonly [plugin: string, key: string]>> = {
  BALENA_SUPERVISOR_PORT: ['supervisor', 'port'],
}

/**
 * Lays environment overrides over a parsed file: `CVMD_PLUGINS__EVENTLOG__MAX_ENTRIES=500` sets
 * `plugins.eventlog.max_entries`. A value is read as TOML where it is TOML (`500`, `true`,
 * `["a"]`, `"500"`), else as a string.
 * `BALENA_SUPERVISOR_PORT` sets `plugins.supervisor.port` where nothing else does.
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
  for (const [name, [plugin, key]] of Object.entries(MIRRORED)) {
    const value = env[name]
    if (value !== undefined && value !== '' && !isSet(result, plugin, key)) {
      set(result, ['plugins', plugin, key], parseValue(value))
    }
  }
  return result
}

function isSet({ plugins }: TomlTable, plugin: string, key: string): boolean {
  const tables = plugins as Record<string, TomlTable | undefined> | undefined
  const table = typeof tables === 'object' ? tables[plugin] : undefined
  return typeof table === 'object' && key in table
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
