import type { TomlPrimitive } from 'smol-toml'
import type { ConfigIssue, TomlTable } from './toml.ts'

/** A system-api file in native form, and what its owner should know. */
export interface Translation {
  readonly table: TomlTable
  readonly issues: readonly ConfigIssue[]
  readonly warnings: readonly string[]
}

/** The largest ring `[plugins.eventlog]` takes; the original has no bound. */
const MAX_RING = 10_000_000

const TABLES = ['general', 'actions', 'file_uploads']

/** Which native key does the job of a system-api table. */
const NATIVE: Readonly<Record<string, string>> = {
  general: '[[listen]], [plugins.eventlog], [auth] and [log]',
  actions: '[plugins.actions.commands.NAME]',
  file_uploads: '[plugins.uploads.files.NAME]',
}

/** Keys of `[general]` and their TOML types (spec system-api §3). */
const GENERAL: Readonly<Record<string, 'string' | 'boolean' | 'integer' | 'strings'>> = {
  listen_addr: 'string',
  pipe_file: 'string',
  log_json: 'boolean',
  log_debug: 'boolean',
  pprof: 'boolean',
  log_max_entries: 'integer',
  basic_auth_secret_path: 'string',
  basic_auth_secret_salt: 'string',
  http_read_timeout_ms: 'integer',
  http_write_timeout_ms: 'integer',
  tls_enabled: 'boolean',
  tls_create_if_missing: 'boolean',
  tls_cert_hosts: 'strings',
  tls_cert_path: 'string',
  tls_key_path: 'string',
}

/** Whether a file speaks system-api's language; its table names match in any case. */
export function isSystemApi(table: TomlTable): boolean {
  return Object.keys(table).some((key) => TABLES.includes(key.toLowerCase()))
}

/**
 * Translates a configuration of flashbots/system-api into the native form, with exactly that
 * API's semantics where a client can see them (spec system-api §2, §3, §9).
 *
 * @param env `MAX_EVENTS` and `SHELL_TO_USE` are read as the original reads them.
 */
export function translateSystemApi(
  file: TomlTable,
  env: Readonly<Record<string, string | undefined>>,
): Translation {
  const issues: ConfigIssue[] = []
  const warnings: string[] = []
  const tables = new Map<string, TomlTable>()
  for (const [key, value] of Object.entries(file)) {
    const name = key.toLowerCase()
    if (!TABLES.includes(name)) {
      if (['listen', 'plugins', 'external', 'auth', 'log', 'state_dir', 'run_dir'].includes(key)) {
        const found = Object.keys(file).find((k) => TABLES.includes(k.toLowerCase())) as string
        issues.push({
          path: found,
          message: `a system-api table cannot stand beside "${key}": use ${NATIVE[found.toLowerCase()]}`,
          owner: 'cvmd',
        })
      } else warnings.push(`unknown table "${key}" is ignored, as system-api does`)
    } else if (isTable(value)) tables.set(name, value)
    else issues.push({ path: key, message: 'expected a table', owner: 'cvmd' })
  }
  const general = readGeneral(tables.get('general') ?? {}, issues, warnings)
  const commands = readNames(tables.get('actions') ?? {}, 'actions', issues)
  const files = readNames(tables.get('file_uploads') ?? {}, 'file_uploads', issues)
  return { table: native(general, commands, files, env, warnings), issues, warnings }
}

type General = Partial<Record<string, TomlPrimitive>>

function readGeneral(table: TomlTable, issues: ConfigIssue[], warnings: string[]): General {
  const general: General = {}
  for (const [key, value] of Object.entries(table)) {
    const name = key.toLowerCase()
    const type = GENERAL[name]
    if (type === undefined) warnings.push(`unknown key "general.${key}" is ignored`)
    else if (typeOf(value) === type) general[name] = value
    else {
      const article = type === 'integer' ? 'an' : 'a'
      const expected = type === 'strings' ? 'an array of strings' : `${article} ${type}`
      issues.push({ path: `general.${key}`, message: `expected ${expected}`, owner: 'cvmd' })
    }
  }
  return general
}

function readNames(table: TomlTable, path: string, issues: ConfigIssue[]): Record<string, string> {
  const names: Record<string, string> = {}
  for (const [name, value] of Object.entries(table)) {
    if (typeof value === 'string') names[name] = value
    else issues.push({ path: `${path}.${name}`, message: 'expected a string', owner: 'cvmd' })
  }
  return names
}

function native(
  general: General,
  commands: Readonly<Record<string, string>>,
  files: Readonly<Record<string, string>>,
  env: Readonly<Record<string, string | undefined>>,
  warnings: string[],
): TomlTable {
  const tls = general.tls_enabled === true
  const passwordFile = (general.basic_auth_secret_path as string | undefined) ?? ''
  const listen: TomlTable = {
    // Go reads an empty address as every interface on the scheme's port.
    address: (general.listen_addr as string | undefined) || (tls ? ':443' : ':80'),
    plugins: ['eventlog', 'actions', 'uploads'],
    dialect: 'system-api',
    allow_anonymous: true,
  }
  if (passwordFile === '') {
    warnings.push('no basic_auth_secret_path: everyone who reaches the port may do everything')
  } else {
    listen.auth = 'basic'
    listen.open_until_password = true
  }
  const readTimeout = Number(general.http_read_timeout_ms ?? 0)
  if (readTimeout > 0) listen.head_timeout_ms = readTimeout
  if (Number(general.http_write_timeout_ms ?? 0) > 0) {
    warnings.push('http_write_timeout_ms has no effect: answers to slow actions are delivered')
  }
  if (tls) {
    listen.tls = {
      cert: (general.tls_cert_path as string | undefined) ?? '',
      key: (general.tls_key_path as string | undefined) ?? '',
      create_if_missing: general.tls_create_if_missing === true,
      hosts: (general.tls_cert_hosts as string[] | undefined) ?? [],
    }
  }
  const eventlog: TomlTable = {
    max_entries: ringSize(general.log_max_entries, env.MAX_EVENTS),
    pprof: general.pprof === true,
  }
  if (general.pipe_file) eventlog.fifo = general.pipe_file
  const auth: TomlTable = { realm: 'system-api' }
  if (passwordFile !== '') {
    auth.password_file = passwordFile
    auth.password_salt = (general.basic_auth_secret_salt as string | undefined) ?? ''
  }
  return {
    listen: [listen],
    auth,
    log: {
      json: general.log_json === true,
      level: general.log_debug === true ? 'debug' : 'info',
      requests: true,
    },
    plugins: {
      eventlog,
      actions: systemApiActions(commands, env.SHELL_TO_USE),
      uploads: systemApiUploads(files),
    },
  }
}

/** Actions as the original runs them: its shell, its whole environment, no limits. */
function systemApiActions(
  commands: Readonly<Record<string, string>>,
  shell: string | undefined,
): TomlTable {
  const translated: TomlTable = {}
  for (const [name, command] of Object.entries(commands)) {
    translated[name] = { shell: command, system_api: true }
  }
  return shell === undefined ? { commands: translated } : { shell, commands: translated }
}

/** Uploads as the original writes them: through symbolic links, of any size. */
function systemApiUploads(files: Readonly<Record<string, string>>): TomlTable {
  const translated: TomlTable = {}
  for (const [name, path] of Object.entries(files)) {
    translated[name] = { path, follow_symlinks: true, max_bytes: 0 }
  }
  return { files: translated }
}

/** `log_max_entries`, else `MAX_EVENTS`, else 1000; 0 in the file means "the default". */
function ringSize(configured: TomlPrimitive | undefined, fromEnv: string | undefined): number {
  const size = Number(configured ?? 0)
  if (size !== 0) return Math.min(size, MAX_RING)
  const fallback = fromEnv !== undefined && /^[+-]?\d+$/.test(fromEnv) ? Number(fromEnv) : 1000
  return Math.min(fallback, MAX_RING)
}

function isTable(value: TomlPrimitive): value is TomlTable {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Date)
}

function typeOf(value: TomlPrimitive): string {
  if (typeof value === 'bigint') return 'integer'
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'float'
  if (Array.isArray(value)) return value.every((v) => typeof v === 'string') ? 'strings' : 'array'
  return typeof value
}
