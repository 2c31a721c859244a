import { join } from 'node:path'
import type { ConsolaInstance } from 'consola'
import { type Audit, createAudit } from './auth/audit.ts'
import { KeyStore } from './auth/keys.ts'
import { PasswordStore } from './auth/password.ts'
import { Throttle } from './auth/throttle.ts'
import type { ListenerConfig } from './config/resolve.ts'
import type { CoreView, PluginReport, ReloadReport } from './core-plugin.ts'
import { messageOf } from './errors.ts'
import { EventLog } from './events/log.ts'
import type { EventSink } from './events/sink.ts'
import { buildGeneration, type Generation, type GenerationParts } from './generation.ts'
import { StartError, startPlugin, stopAll, stopPlugin } from './lifecycle.ts'
import { type Listener, openListener } from './listen.ts'
import { createLog, logFormat, setLevel } from './log.ts'
import { Metrics } from './metrics.ts'
import type { PluginInstance } from './plugin.ts'
import { type Prepared, type PrepareOptions, prepare } from './prepare.ts'
import { routesOf } from './registry.ts'
import { type Handler, runtimeVersion, type TlsPair } from './runtime.ts'
import { lockState } from './state-lock.ts'
import { notifySystemd } from './systemd.ts'
import { TlsFiles } from './tls/files.ts'
import { VERSION } from './version.ts'

/** An open listener and, with TLS, the files its certificate comes from. */
interface OpenListener {
  readonly listener: Listener
  readonly tls: TlsFiles | undefined
}

/**
 * The running daemon: one generation of plugins behind any number of listeners, both of which a
 * reload exchanges without a request failing.
 */
export class Daemon {
  readonly #options: PrepareOptions
  readonly #eventLog: EventLog
  readonly #events: EventSink
  readonly #metrics = new Metrics()
  readonly #throttle = new Throttle()
  readonly #log: ConsolaInstance
  readonly #audit: Audit
  readonly #failed = new Map<string, string>()
  #generation: Generation | undefined
  /** What {@link #generation} was built from. */
  #prepared: Prepared | undefined
  #keys: KeyStore | undefined
  #open: OpenListener[] = []
  #unlock: (() => Promise<void>) | undefined
  /** While plugins are exchanged, requests wait here for the new ones. */
  #gate: Promise<void> | undefined
  #reloading: Promise<unknown> = Promise.resolve()
  #stopping: Promise<void> | undefined

  private constructor(options: PrepareOptions, eventLog: EventLog, log: ConsolaInstance) {
    this.#options = options
    this.#eventLog = eventLog
    this.#events = eventLog.sink('cvmd')
    this.#audit = createAudit(this.#events)
    this.#log = log
  }

  /**
   * Boots: probe, choose, check, set up, mount, start, listen — in this order, so that whatever
   * can fail without touching the machine fails first.
   *
   * @throws {ConfigError} Exit status 78.
   * @throws {ListenError} Exit status 1, or 75 when another cvmd runs.
   * @throws {StartError} A built-in plugin did not start; what had started is stopped again.
   */
  static async boot(options: PrepareOptions): Promise<Daemon> {
    const eventLog = new EventLog()
    eventLog.append('cvmd', `cvmd ${VERSION} starting on ${runtimeVersion()}`)
    const prepared = await prepare(options)
    const { log: wanted } = prepared.resolved.core
    const log = createLog({ level: wanted.level, format: logFormat(wanted.json, options.env) })
    const daemon = new Daemon(options, eventLog, log)
    try {
      await daemon.#start(prepared)
    } catch (error) {
      await daemon.stop()
      throw error
    }
    return daemon
  }

  /** Listeners with their ports, for the log and tests. */
  get listeners(): readonly { readonly name: string; readonly port: number }[] {
    return this.#open.map(({ listener }) => ({ name: listener.name, port: listener.port }))
  }

  get log(): ConsolaInstance {
    return this.#log
  }

  async #start(prepared: Prepared): Promise<void> {
    const { resolved } = prepared
    this.#warn(resolved.warnings)
    this.#unlock = await lockState(resolved.paths.stateDir)
    this.#keys = new KeyStore(join(resolved.paths.stateDir, 'keys.json'), {
      onProblem: (error) => this.#log.error(error.message),
    })
    const generation = await this.#build(prepared)
    this.#generation = generation
    this.#prepared = prepared
    for (const loaded of generation.plugins) {
      await this.#startOne(loaded, resolved.core.start_timeout_ms, prepared)
    }
    for (const config of resolved.listeners) this.#open.push(await this.#openOne(config))
    for (const { listener } of this.#open) {
      const address = listener.port === 0 ? listener.name : withPort(listener)
      this.#log.info(`Listening on ${address}`)
    }
    this.#log.info(`Serving ${generation.plugins.length} plugins`)
    this.#events.append(`ready with ${generation.plugins.map((p) => p.plugin.name).join(', ')}`)
    notifySystemd(['READY=1', `STATUS=Serving on ${this.#open.length} listeners`])
  }

  /** Starts a plugin; one from outside that fails is marked and leaves the others alone. */
  async #startOne(
    loaded: Generation['plugins'][number],
    timeoutMs: number,
    prepared: Prepared,
  ): Promise<void> {
    try {
      await startPlugin(loaded, timeoutMs)
    } catch (error) {
      const { name } = loaded.plugin
      if (!isExternal(prepared, name)) throw error
      this.#fail(name, messageOf(error))
    }
  }

  async #build(prepared: Prepared): Promise<Generation> {
    const { resolved } = prepared
    const passwords = await this.#passwords(prepared)
    this.#keys?.load()
    const parts: GenerationParts = {
      view: this.#view(),
      core: {
        eventLog: this.#eventLog,
        device: prepared.machine,
        metrics: this.#metrics,
        log: this.#log,
        stateDir: resolved.paths.stateDir,
      },
      mount: {
        metrics: this.#metrics,
        log: this.#log,
        audit: this.#audit,
        throttle: this.#throttle,
        keys: this.#keys as KeyStore,
        passwords,
        realm: resolved.core.auth.realm,
        requestLines: resolved.core.log.requests,
      },
    }
    const generation = buildGeneration(prepared, parts, this.#generation)
    this.#failed.clear()
    for (const { name, reason } of generation.refused) this.#fail(name, reason)
    return generation
  }

  /** One store per file and salt, kept over reloads, so that a set password is never forgotten. */
  async #passwords(prepared: Prepared): Promise<PasswordStore | undefined> {
    const { password_file: file, password_salt: salt } = prepared.resolved.core.auth
    if (file === undefined) return undefined
    const before = this.#generation
    const auth = before?.resolved.core.auth
    const same = auth?.password_file === file && auth.password_salt === salt
    const store = (same && before?.passwords) || new PasswordStore(file, salt)
    const found = await store.load()
    // With system-api's rule an unset password means an open door; a reload must not open it.
    if (before?.passwords?.isSet && !store.isSet) {
      throw new Error(`Cannot change to "${file}": it holds no password, and one is in force`)
    }
    if (found === 'created' || found === 'empty') {
      this.#log.warn(`No password is set yet: POST it to /api/v1/set-basic-auth (${file})`)
    }
    return store
  }

  async #openOne(config: ListenerConfig): Promise<OpenListener> {
    const files = config.tls && this.#tlsFiles(config)
    const loaded = await files?.load()
    if (loaded?.created) this.#log.info(`Made a self-signed certificate for ${config.name}`)
    const listener = await openListener(config, loaded?.pair, this.#handlerOf(config.name))
    files?.watch((next: TlsPair) => {
      listener.replaceTls(next)
      this.#events.append(`certificate of ${config.name} was reloaded`)
    })
    return { listener, tls: files }
  }

  #tlsFiles(config: ListenerConfig): TlsFiles {
    const tls = config.tls as NonNullable<ListenerConfig['tls']>
    return new TlsFiles({
      certPath: tls.cert,
      keyPath: tls.key,
      createIfMissing: tls.create_if_missing,
      hosts: tls.hosts,
      report: (message, level) => {
        this.#log[level](message)
        this.#events.append(message, { level })
      },
    })
  }

  #handlerOf(name: string): Handler {
    return (request, exchange) => {
      const answer = () => {
        const mounted = this.#generation?.mounted.get(name)
        return mounted?.handle(request, exchange) ?? new Response(null, { status: 503 })
      }
      return this.#gate ? this.#gate.then(answer) : answer()
    }
  }

  /**
   * Reads the configuration again and applies it whole or not at all. Calls queue up.
   *
   * @throws {ConfigError} The file is not good; nothing changed.
   * @throws {Error} A new plugin or listener failed; what had changed was put back.
   */
  reload(): Promise<ReloadReport> {
    const run = this.#reloading.then(() => this.#reloadNow())
    this.#reloading = run.catch(() => undefined)
    return run
  }

  async #reloadNow(): Promise<ReloadReport> {
    notifySystemd(['RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`])
    try {
      const report = await this.#apply(await prepare(this.#options))
      this.#events.append('configuration reloaded')
      this.#log.info('Configuration reloaded', { ...report })
      return report
    } catch (error) {
      this.#events.append('configuration not reloaded, the old one stays', { level: 'error' })
      this.#log.error(`Configuration not reloaded, the old one stays: ${messageOf(error)}`)
      throw error
    } finally {
      notifySystemd(['READY=1'])
    }
  }

  async #apply(prepared: Prepared): Promise<ReloadReport> {
    const old = this.#generation as Generation
    const { resolved } = prepared
    const warnings = [...resolved.warnings]
    if (resolved.paths.stateDir !== old.resolved.paths.stateDir) {
      throw new Error('Cannot change state_dir while running: restart cvmd')
    }
    const next = await this.#build(prepared)
    const current = new Map(this.#open.map((open) => [open.listener.name, open]))
    const added = resolved.listeners.filter(({ name }) => !current.has(name))
    const opened: OpenListener[] = []
    const stopped = old.plugins.filter((loaded) => !next.kept.has(loaded))
    const started = next.plugins.filter((loaded) => !next.kept.has(loaded))
    let openGate = () => {}
    try {
      // New listeners serve nothing until the generation is exchanged below.
      for (const config of added) opened.push(await this.#openOne(config))
      this.#gate = new Promise((resolve) => {
        openGate = resolve
      })
      await stopAll(stopped, resolved.core.shutdown_timeout_ms)
      for (const loaded of started) {
        await this.#startOne(loaded, resolved.core.start_timeout_ms, prepared)
      }
    } catch (error) {
      await Promise.all(opened.map((open) => this.#close(open, 0)))
      if (error instanceof StartError) await this.#restore(old, started, stopped)
      throw error
    } finally {
      if (!this.#stopping) this.#gate = undefined
      openGate()
    }
    this.#generation = next
    this.#prepared = prepared
    setLevel(this.#log, resolved.core.log.level)
    const removed = this.#open.filter((open) => !next.mounted.has(open.listener.name))
    this.#open = [...this.#open.filter((open) => !removed.includes(open)), ...opened]
    for (const open of this.#open) {
      const config = resolved.listeners.find(({ name }) => name === open.listener.name)
      if (config && !sameEndpoint(config, open.listener.config)) {
        warnings.push(`${config.name}: limits, mode, group and tls paths change at the next start`)
      }
      await this.#reloadTls(open)
    }
    const deadline = resolved.core.shutdown_timeout_ms
    for (const open of removed) void this.#close(open, deadline)
    this.#warn(warnings)
    return {
      started: started.map(({ plugin }) => plugin.name),
      stopped: stopped.map(({ plugin }) => plugin.name),
      kept: [...next.kept].map(({ plugin }) => plugin.name),
      listeners: this.#open.map(({ listener }) => listener.name),
      warnings,
    }
  }

  async #reloadTls({ listener, tls }: OpenListener): Promise<void> {
    try {
      if (tls && (await tls.reload()) && tls.pair) listener.replaceTls(tls.pair)
    } catch (error) {
      this.#log.warn(`Certificate of ${listener.name} not reloaded: ${messageOf(error)}`)
    }
  }

  /** Puts the old generation back after a new plugin failed to start; stopped ones are made anew. */
  async #restore(
    old: Generation,
    started: Generation['plugins'],
    stopped: Generation['plugins'],
  ): Promise<void> {
    const { start_timeout_ms: timeout } = old.resolved.core
    await stopAll(started, timeout)
    const survivors = old.plugins.filter((loaded) => !stopped.includes(loaded))
    this.#generation = { ...old, plugins: survivors }
    this.#generation = await this.#build(this.#prepared as Prepared)
    for (const loaded of this.#generation.plugins) {
      if (survivors.includes(loaded)) continue
      try {
        await startPlugin(loaded, timeout)
      } catch (error) {
        this.#fail(loaded.plugin.name, messageOf(error))
      }
    }
  }

  /** Stops: no new requests, drain, plugins in reverse order. Safe to call again. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stopNow()
    return this.#stopping
  }

  async #stopNow(): Promise<void> {
    const generation = this.#generation
    const deadline = generation?.resolved.core.shutdown_timeout_ms ?? 10_000
    notifySystemd(['STOPPING=1'])
    this.#audit.flush()
    this.#events.append('stopping')
    // Streams end when their plugin's signal aborts, so that they do not hold the drain.
    for (const loaded of generation?.plugins ?? []) loaded.abort.abort()
    await Promise.all(this.#open.map((open) => this.#close(open, deadline)))
    for (const loaded of [...(generation?.plugins ?? [])].reverse()) {
      await stopPlugin(loaded, deadline)
    }
    await this.#unlock?.()
  }

  async #close(open: OpenListener, deadlineMs: number): Promise<void> {
    open.tls?.stop()
    await open.listener.close(deadlineMs)
  }

  #view(): CoreView {
    return {
      plugins: () => this.#reports(),
      routes: (listener) => this.#generation?.mounted.get(listener)?.routes ?? [],
      notReady: () => this.#notReady(),
      metrics: () => this.#metrics.render(),
      reload: () => this.reload(),
    }
  }

  #reports(): PluginReport[] {
    const generation = this.#generation
    const decided = (generation?.resolved.plugins ?? []).map(({ plugin, state, reason }) => {
      const loaded = generation?.plugins.find((p) => p.plugin.name === plugin.name)
      const failure = this.#failed.get(plugin.name)
      return {
        name: plugin.name,
        summary: plugin.summary,
        state: failure === undefined ? state : ('failed' as const),
        reason: failure ?? reason,
        requires: plugin.requires ?? null,
        exposure: plugin.exposure ?? 'local',
        routes: loaded ? routesOf(loaded).map(({ method, path }) => ({ method, path })) : [],
      }
    })
    const known = new Set(decided.map(({ name }) => name))
    const unnamed = [...this.#failed].filter(([name]) => !known.has(name))
    return [
      ...decided,
      ...unnamed.map(([name, reason]) => ({
        name,
        summary: '',
        state: 'failed' as const,
        reason,
        requires: null,
        exposure: 'local' as const,
        routes: [],
      })),
    ]
  }

  #notReady(): Record<string, string> {
    const waiting: Record<string, string> = Object.fromEntries(this.#failed)
    for (const { plugin, instance, unavailable } of this.#generation?.plugins ?? []) {
      const reason = unavailable ?? reasonOf(instance)
      if (reason !== undefined) waiting[plugin.name] = reason
    }
    return waiting
  }

  #fail(name: string, reason: string): void {
    this.#failed.set(name, reason)
    this.#log.error(reason)
    this.#events.append(reason, { level: 'error' })
  }

  #warn(warnings: readonly string[]): void {
    for (const warning of warnings) this.#log.warn(warning)
  }
}

/** What a plugin says about itself; one that throws there is not ready either. */
function reasonOf(instance: PluginInstance): string | undefined {
  try {
    return instance.notReady?.()
  } catch (error) {
    return `notReady failed: ${messageOf(error)}`
  }
}

function isExternal(prepared: Prepared, name: string): boolean {
  return prepared.externals.some((result) => 'plugin' in result && result.plugin.name === name)
}

/** With port 0 in the configuration the kernel chose one, which is what a person needs to know. */
function withPort({ name, port }: Listener): string {
  return name.replace(/:\d+$/, `:${port}`)
}

/** Whether two configurations of a listener bind it in the same way. */
function sameEndpoint(a: ListenerConfig, b: ListenerConfig): boolean {
  const bound = (c: ListenerConfig) =>
    JSON.stringify([
      c.mode,
      c.group,
      c.tls,
      c.max_head_bytes,
      c.head_timeout_ms,
      c.idle_timeout_ms,
      c.max_connections,
      c.max_connections_per_peer,
    ])
  return bound(a) === bound(b)
}
