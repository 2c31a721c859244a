import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { loadNative } from '../device/native.ts'
import type { Machine } from '../device/probe.ts'
import { messageOf } from '../errors.ts'
import { addressesOf, type Needs, needsOf } from '../needs.ts'
import { type AnyPlugin, homeOf, type Requirement } from '../plugin.ts'
import { ClientTrustError, loadClientTrust } from '../tls/client-trust.ts'
import { parseAddress } from './address.ts'
import { applyEnv } from './env.ts'
import { defaultPaths, type Paths, ROOT_RUN_DIR } from './paths.ts'
import { CoreConfig, Enabled, type Listen, type ListenConfig } from './schema.ts'
import { isSystemApi, translateSystemApi } from './system-api.ts'
import { ConfigError, type ConfigIssue, locate, parseToml, type TomlTable } from './toml.ts'

/** A configuration file as read, before anything is checked. */
export interface ConfigSource {
  /** Path, or `(defaults)` when there is no file. */
  readonly file: string
  readonly text: string
  /** In native form, with environment overrides. */
  readonly table: TomlTable
  readonly issues: readonly ConfigIssue[]
  readonly warnings: readonly string[]
  /** Whether the file was written for system-api. */
  readonly systemApi: boolean
  /** Of the TCP listener where the file lists none. Default: 127.0.0.1:3535. */
  readonly defaultAddress?: string
}

/** What became of one plugin. */
export interface PluginDecision extends Needs {
  readonly plugin: AnyPlugin
  readonly state: 'enabled' | 'disabled' | 'unavailable'
  /** Why it is not enabled; empty when it is. */
  readonly reason: string
  /** Checked configuration; undefined only when the file had issues. */
  readonly config: unknown
}

/** A listener with everything decided. */
export interface ListenerConfig extends ListenConfig {
  /** `127.0.0.1:3535` or `unix:/run/cvmd/cvmd.sock`. */
  readonly name: string
  /** Names of enabled plugins to mount, in order. */
  readonly mounted: readonly string[]
}

/** A configuration that was found good as a whole. */
export interface Resolved {
  readonly source: ConfigSource
  readonly core: CoreConfig
  readonly paths: Paths
  readonly listeners: readonly ListenerConfig[]
  readonly plugins: readonly PluginDecision[]
  readonly warnings: readonly string[]
}

/**
 * Reads a configuration file, translating one of system-api, and lays the environment over it.
 *
 * @param file Absent: built-in defaults.
 * @throws {ConfigError} When it cannot be read or is no TOML.
 */
export function readConfig(
  file: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
): ConfigSource {
  if (file === undefined) {
    const table = applyEnv({}, env)
    const none = { text: '', issues: [], warnings: [], systemApi: false }
    return { file: '(defaults)', table, ...none }
  }
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    const message = `cannot be read: ${messageOf(error)}`
    throw new ConfigError(file, [{ path: '', message, owner: 'cvmd' }])
  }
  const parsed = parseToml(text, file)
  if (!isSystemApi(parsed)) {
    const table = applyEnv(parsed, env)
    return { file, text, table, issues: [], warnings: [], systemApi: false }
  }
  const { table, issues, warnings } = translateSystemApi(parsed, env)
  return { file, text, table: applyEnv(table, env), issues, warnings, systemApi: true }
}

/** The core's part alone, as far as it is needed to find external plugins. */
export function externalsOf(source: ConfigSource): CoreConfig['external'] {
  const result = v.safeParse(CoreConfig.entries.external, source.table.external)
  return result.success ? result.output : []
}

/**
 * The Unix socket an operator's command reaches the daemon on; undefined where there is none. Looks
 * at no device: the daemon may be using them.
 *
 * @throws {ConfigError} When the core's part of the file is not good.
 */
export function operatorSocket(source: ConfigSource): string | undefined {
  const parsed = v.safeParse(CoreConfig, source.table)
  if (!parsed.success) {
    const issues = parsed.issues.map((issue) => {
      const path = pathOf(issue)
      const where = { path: path.join('.'), owner: 'cvmd', ...locate(source.text, path) }
      return { ...where, message: describe(issue) }
    })
    throw new ConfigError(source.file, issues)
  }
  const { listen } = parsed.output
  if (listen === undefined || source.systemApi) {
    return join(defaultPaths(parsed.output).runDir, 'cvmd.sock')
  }
  return listen.find(({ unix, core, routes }) => unix !== undefined && core && !routes)?.unix
}

/** What the plugins require with this configuration, as far as it is good. */
export function requirementsOf(
  { table }: ConfigSource,
  plugins: readonly AnyPlugin[],
): (Requirement | undefined)[] {
  const tables = isRecord(table.plugins) ? table.plugins : {}
  return plugins.map((plugin) => {
    const given = tables[plugin.name]
    const { enabled: _, ...own } = isRecord(given) ? given : {}
    const config = v.safeParse(plugin.config, own)
    return needsFor(plugin, config.success ? config.output : undefined, () => undefined).requires
  })
}

/**
 * Checks everything and decides what runs: the same code serves the boot, `cvmd check` and reload.
 *
 * @throws {ConfigError} Naming every problem at once.
 */
export function resolveConfig(
  source: ConfigSource,
  plugins: readonly AnyPlugin[],
  machine: Machine,
): Resolved {
  const issues: ConfigIssue[] = [...source.issues]
  const warnings: string[] = [...source.warnings]
  const report = (path: readonly (string | number)[], message: string, owner: string) =>
    issues.push({ path: path.join('.'), message, owner, ...locate(source.text, path) })

  const parsed = v.safeParse(CoreConfig, source.table)
  if (!parsed.success) {
    for (const issue of parsed.issues) report(pathOf(issue), describe(issue), 'cvmd')
  }
  const tables = isRecord(source.table.plugins) ? source.table.plugins : {}
  const known = new Set(plugins.map(({ name }) => name))
  for (const name of Object.keys(tables)) {
    if (known.has(name)) continue
    const list = [...known].join(', ')
    report(['plugins', name], `no plugin of this name; there are ${list}`, 'cvmd')
  }
  const chosen = plugins.map((plugin) => decide(plugin, tables[plugin.name], machine, report))
  const decisions = withoutProviders(chosen, tables, report)
  if (!parsed.success) throw new ConfigError(source.file, issues)

  const paths = defaultPaths(parsed.output)
  const listeners = resolveListeners(parsed.output, source, paths, decisions, report, warnings)
  if (issues.length > 0) throw new ConfigError(source.file, issues)
  return { source, core: parsed.output, paths, listeners, plugins: decisions, warnings }
}

type Report = (path: readonly (string | number)[], message: string, owner: string) => void

function decide(
  plugin: AnyPlugin,
  given: unknown,
  machine: Machine,
  report: Report,
): PluginDecision {
  const { enabled: wanted, ...table } = isRecord(given) ? given : {}
  const enabled = v.safeParse(Enabled, wanted)
  if (!enabled.success) {
    report(['plugins', plugin.name, 'enabled'], 'expected true, false or "auto"', plugin.name)
  }
  const config = v.safeParse(plugin.config, table)
  if (!config.success) {
    for (const issue of config.issues) {
      report(['plugins', plugin.name, ...pathOf(issue)], describe(issue), plugin.name)
    }
  }
  const checked = config.success ? config.output : undefined
  const needs = needsFor(plugin, checked, report)
  const base = { plugin, config: checked, ...needs }
  if (enabled.output === false) {
    return { ...base, state: 'disabled', reason: 'enabled = false in the configuration' }
  }
  const waits = plugin.waits === true && enabled.output === true
  if (needs.requires !== undefined && !waits && !machine.has(needs.requires)) {
    const reason = machine.explain(needs.requires)
    if (enabled.output === true) {
      report(['plugins', plugin.name, 'enabled'], `cannot be enabled: ${reason}`, plugin.name)
    }
    return { ...base, state: 'unavailable', reason }
  }
  return { ...base, state: 'enabled', reason: '' }
}

function needsFor(plugin: AnyPlugin, config: unknown, report: Report): Needs {
  try {
    return needsOf(plugin, config)
  } catch (error) {
    report(['plugins', plugin.name], messageOf(error), plugin.name)
    return { requires: undefined, uses: [] }
  }
}

/** Leaves out plugins that use a service whose providers are not enabled, until all that is left fits. */
function withoutProviders(
  decisions: readonly PluginDecision[],
  tables: Readonly<Record<string, unknown>>,
  report: Report,
): readonly PluginDecision[] {
  const providers = (service: string) =>
    decisions.filter(({ plugin }) => plugin.provides?.includes(service as never))
  const missing = ({ uses, state }: PluginDecision) => {
    if (state !== 'enabled') return undefined
    for (const service of uses) {
      const given = providers(service)
      const off = given.every((provider) => provider.state !== 'enabled')
      if (given[0] && off) return `plugin "${given[0].plugin.name}" is not enabled`
    }
    return undefined
  }
  const next = decisions.map((decision): PluginDecision => {
    const reason = missing(decision)
    if (reason === undefined) return decision
    const { name } = decision.plugin
    const table = tables[name]
    if (isRecord(table) && table.enabled === true) {
      report(['plugins', name, 'enabled'], `cannot be enabled: ${reason}`, name)
    }
    return { ...decision, state: 'unavailable', reason }
  })
  const changed = next.some((decision, i) => decision !== decisions[i])
  return changed ? withoutProviders(next, tables, report) : decisions
}

function resolveListeners(
  core: CoreConfig,
  source: ConfigSource,
  paths: Paths,
  decisions: readonly PluginDecision[],
  report: Report,
  warnings: string[],
): ListenerConfig[] {
  const enabled = decisions.filter(({ state }) => state === 'enabled')
  const listeners = (core.listen ?? []).map((listen, index) =>
    resolveListener(listen, index, core, decisions, report),
  )
  if (core.listen === undefined) {
    const operator = enabled.filter(({ plugin }) => homeOf(plugin) !== 'guest')
    const network = operator.filter(({ plugin }) => plugin.exposure === 'network')
    const { defaultAddress: address = '127.0.0.1:3535' } = source
    const listener = defaultListener({ address }, core, network)
    checkAddress(listener, (key) => ['listen', 0, key], report)
    listeners.push(listener)
  }
  // The operator's Unix socket is how the command line reaches the daemon, whatever the file says
  // about TCP; a native file that lists its own listeners decides alone.
  if (core.listen === undefined || source.systemApi) {
    const unix = join(paths.runDir, 'cvmd.sock')
    listeners.push(defaultListener({ unix }, core, enabled))
    const guest = enabled.filter(({ plugin }) => homeOf(plugin) === 'guest')
    for (const unix of guest.length > 0 ? guestSockets(paths) : []) {
      listeners.push(defaultListener({ unix, core: false, dialect: 'dstack' }, core, guest))
    }
  }
  // Beside a translated file too: it knows nothing of plugins with addresses of their own.
  if (core.listen === undefined || source.systemApi) {
    for (const decision of enabled) listeners.push(...ownListeners(decision, core))
  }
  const names = new Set<string>()
  for (const [index, { name }] of listeners.entries()) {
    if (names.has(name)) report(['listen', index], `"${name}" is listed twice`, 'cvmd')
    names.add(name)
  }
  for (const { plugin } of enabled) {
    if (listeners.some(({ mounted }) => mounted.includes(plugin.name))) continue
    warnings.push(`plugin "${plugin.name}" is enabled, but no listener serves it`)
  }
  return listeners
}

function resolveListener(
  listen: ListenConfig,
  index: number,
  core: CoreConfig,
  decisions: readonly PluginDecision[],
  report: Report,
): ListenerConfig {
  const tcp = listen.address !== undefined
  const name = tcp ? (listen.address as string) : `unix:${listen.unix}`
  const at = (key: string) => ['listen', index, key]
  if (listen.auth.includes('basic') && core.auth.password_file === undefined) {
    report(at('auth'), '"basic" needs auth.password_file', 'cvmd')
  }
  checkCertificates(listen, core, at, report)
  if (listen.auth.includes('peer')) checkPeers(listen, core, at, report)
  for (const plugin of listen.plugins ?? []) {
    const decision = decisions.find((d) => d.plugin.name === plugin)
    if (!decision) report(at('plugins'), `no plugin "${plugin}"`, 'cvmd')
    else if (tcp && decision.plugin.exposure !== 'network') {
      report(at('plugins'), `"${plugin}" may only be served on a Unix socket`, plugin)
    }
  }
  // Without the core's routes nothing is left for the listener to guard.
  const guarded =
    !listen.core && listen.plugins?.every((plugin) => authenticates(plugin, decisions))
  if (tcp) checkAddress(guarded ? { ...listen, allow_anonymous: true } : listen, at, report)
  if (listen.auth.includes('none') && listen.auth.length > 1) {
    report(at('auth'), '"none" makes the other ways pointless: remove one or the other', 'cvmd')
  }
  const mounted = decisions
    .filter(({ state }) => state === 'enabled')
    .filter(({ plugin }) => listen.plugins?.includes(plugin.name) ?? true)
    .filter(({ plugin }) => !tcp || plugin.exposure === 'network')
    .map(({ plugin }) => plugin.name)
  return { ...listen, name, mounted }
}

/** A method that could never let anybody in, or would let in whom nobody vouches for, is a mistake. */
function checkCertificates(
  { auth, tls }: ListenConfig,
  core: CoreConfig,
  at: (key: string) => (string | number)[],
  report: Report,
): void {
  const wanted = auth.includes('certificate')
  if (wanted && tls?.client_ca === undefined) {
    report(at('auth'), '"certificate" needs tls.client_ca', 'cvmd')
  }
  if (wanted && core.auth.certificates.length === 0) {
    report(at('auth'), '"certificate" needs [[auth.certificates]]', 'cvmd')
  }
  if (tls?.client_ca === undefined) {
    if (tls?.client_crl !== undefined) {
      report([...at('tls'), 'client_crl'], 'needs client_ca', 'cvmd')
    }
    return
  }
  if (!wanted) {
    report([...at('tls'), 'client_ca'], 'has no effect without auth = "certificate"', 'cvmd')
  }
  try {
    loadClientTrust({ client_ca: tls.client_ca, client_crl: tls.client_crl })
  } catch (error) {
    const key = error instanceof ClientTrustError ? error.key : 'client_ca'
    report([...at('tls'), key], messageOf(error), 'cvmd')
  }
}

function checkPeers(
  { unix, tls }: ListenConfig,
  core: CoreConfig,
  at: (key: string) => (string | number)[],
  report: Report,
): void {
  if (unix === undefined) report(at('auth'), '"peer" needs a Unix socket', 'cvmd')
  if (tls) report(at('auth'), '"peer" cannot be had together with tls', 'cvmd')
  if (core.auth.peers.length === 0) report(at('auth'), '"peer" needs [[auth.peers]]', 'cvmd')
  const native = loadNative()
  if ('readPeer' in native) return
  const why = `"peer" needs the native addon: ${native.reason}; ${native.remedy}`
  report(at('auth'), why, 'cvmd')
}

function authenticates(name: string, decisions: readonly PluginDecision[]): boolean {
  return decisions.some(({ plugin }) => plugin.name === name && plugin.auth === 'own')
}

function checkAddress(
  listen: ListenConfig,
  at: (key: string) => (string | number)[],
  report: Report,
): void {
  const address = parseAddress(listen.address as string)
  if (address === undefined) {
    const example = 'expected host:port such as "127.0.0.1:3535" or "[::1]:3535"'
    report(at('address'), example, 'cvmd')
  } else if (!address.loopback && listen.auth.includes('none') && !listen.allow_anonymous) {
    const remedy = 'set auth, or allow_anonymous = true if everyone may use it'
    report(at('auth'), `"${listen.address}" can be reached by others: ${remedy}`, 'cvmd')
  }
}

function defaultListener(
  where: ({ readonly address: string } | { readonly unix: string }) &
    Partial<v.InferInput<typeof Listen>>,
  core: CoreConfig,
  served: readonly PluginDecision[],
): ListenerConfig {
  const listen = v.parse(CoreConfig.entries.listen.wrapped.item, where)
  const name = 'unix' in where ? `unix:${where.unix}` : where.address
  const mounted = served.map(({ plugin }) => plugin.name)
  // A password that was configured for the daemon guards the default TCP port too.
  const auth = core.auth.password_file && 'address' in where ? (['basic'] as const) : listen.auth
  return { ...listen, auth: [...auth], name, mounted }
}

/** Listeners of a plugin that has addresses of its own; it authenticates its callers. */
function ownListeners(decision: PluginDecision, core: CoreConfig): ListenerConfig[] {
  const { plugin, config } = decision
  if (homeOf(plugin) !== 'own' || config === undefined) return []
  const addresses = addressesOf(plugin, config)
  const fixed = { core: false, plugins: [plugin.name], allow_anonymous: true }
  return addresses.map(({ address, late = false }) => ({
    ...defaultListener({ address, late, ...fixed }, core, [decision]),
    auth: ['none'],
  }))
}

/** Where applications in the VM look for their socket (spec dstack §3). */
function guestSockets({ runDir }: Paths): string[] {
  const folder = process.getuid?.() === 0 && runDir === ROOT_RUN_DIR ? '/var/run' : runDir
  return [join(folder, 'dstack.sock'), join(folder, 'tappd.sock')]
}

/** The keys that lead to an issue. */
export function pathOf(issue: v.BaseIssue<unknown>): (string | number)[] {
  return (issue.path ?? []).map(({ key }) => key as string | number)
}

/** An issue in words, without its path. */
export function describe(issue: v.BaseIssue<unknown>): string {
  if (issue.type === 'strict_object' && issue.expected === 'never') return 'unknown key'
  if (issue.expected !== null && issue.message.startsWith('Invalid')) {
    return `expected ${issue.expected}, found ${issue.received}`
  }
  return issue.message
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
