import { join } from 'node:path'
import type { ConsolaInstance } from 'consola'
import { attestLog } from './attest/attested-log.ts'
import type { Attester } from './attester/attester.ts'
import { deviceObserver } from './attester/device-metrics.ts'
import type { MachineAttester } from './attester/machine-attester.ts'
import { NO_ATTESTER } from './attester/none.ts'
import { type Audit, createAudit } from './auth/audit.ts'
import { recogniseCertificates } from './auth/certificates.ts'
import { KeyStore } from './auth/keys.ts'
import { PasswordStore } from './auth/password.ts'
import { recognisePeers } from './auth/peers.ts'
import { Throttle } from './auth/throttle.ts'
import { runtimeEventsFile } from './config/paths.ts'
import type { CoreView, ReloadReport } from './core-plugin.ts'
import { messageOf } from './errors.ts'
import { EventLog } from './events/log.ts'
import type { EventSink } from './events/sink.ts'
import { assertNoneLost } from './external/load.ts'
import { lockState } from './files/state-lock.ts'
import { buildGeneration, type Generation, type GenerationParts } from './generation.ts'
import type { Gpus } from './gpu/gpus.ts'
import { MachineGpus } from './gpu/machine-gpus.ts'
import { closeAll, ListenerSet } from './http/listener-set.ts'
import { startPlugin, stopAll } from './lifecycle.ts'
import { createLog, logFormat, setLevel } from './log.ts'
import { Metrics } from './metrics.ts'
import type { Requirement } from './plugin.ts'
import { type Prepared, type PrepareOptions, prepare, withSimulator } from './prepare.ts'
import { daemonState, pluginReports, waitingOf } from './reports.ts'
import { type Handler, runtimeVersion } from './runtime.ts'
import type { SetUpPlugin } from './setup.ts'
import { notifySystemd } from './systemd.ts'
import { VERSION } from './version.ts'

/** What a machine needs to prove anything. */
const ATTESTS: Requirement = { any: ['tdx', 'nsm'] }

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
  readonly #listeners: ListenerSet
  #generation: Generation | undefined
  /** What {@link #generation} was built from. */
  #prepared: Prepared | undefined
  #keys: KeyStore | undefined
  #attestation: MachineAttester | undefined
  #gpus: Gpus | undefined
  /** What {@link #attestation} was made from; equal text means that it can be kept. */
  #attestationKey = ''
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
    const handler = (name: string) => this.#handlerOf(name)
    this.#listeners = new ListenerSet({ handler, log, events: this.#events })
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
  static async boot(given: PrepareOptions): Promise<Daemon> {
    const eventLog = new EventLog()
    eventLog.append('cvmd', `cvmd ${VERSION} starting on ${runtimeVersion()}`)
    const { simulate, env } = given
    if (simulate) eventLog.append('cvmd', `simulating ${simulate}: nothing here is protected`)
    const options = await withSimulator(given)
    const prepared = await prepare(options)
    const { log: wanted } = prepared.resolved.core
    const format = logFormat(wanted.json, env)
    const log = createLog({ level: wanted.level, format, simulated: simulate })
    if (simulate) log.warn(`Simulating ${simulate}: for development, nothing here is protected`)
    const daemon = new Daemon(options, eventLog, log)
    try {
      await daemon.#start(prepared)
    } catch (error) {
      await daemon.stop()
      throw error
    }
    return daemon
  }

  /** Whether a listener answers a real request, for the watchdog. */
  alive(): Promise<boolean> {
    return this.#listeners.alive()
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
    void this.#tidyDevices()
    for (const loaded of generation.plugins) await this.#startOne(loaded, generation, prepared)
    const opened = await this.#listeners.open(resolved.listeners)
    await this.#listeners.use(opened, resolved.listeners, 0)
    this.#log.info(`Serving ${generation.plugins.length} plugins`)
    this.#events.append(`ready with ${generation.plugins.map((p) => p.plugin.name).join(', ')}`)
    notifySystemd(['READY=1', `STATUS=Serving on ${opened.length} listeners`])
  }

  /** Starts a plugin; one from outside that fails is marked and leaves the others alone. */
  async #startOne(
    loaded: SetUpPlugin,
    generation: Generation,
    { resolved, externals }: Prepared,
  ): Promise<void> {
    try {
      await startPlugin(loaded, resolved.core.start_timeout_ms)
    } catch (error) {
      const { name } = loaded.plugin
      if (!externals.some((e) => 'plugin' in e && e.plugin.name === name)) throw error
      generation.failed.set(name, messageOf(error))
      this.#complain(messageOf(error))
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
        attestation: await this.#attesterFor(prepared),
        gpus: this.#gpusOf(prepared),
        daemon: daemonState(() => this.#generation),
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
        certificates: recogniseCertificates(resolved.core.auth.certificates),
        peers: recognisePeers(resolved.core.auth.peers),
        realm: resolved.core.auth.realm,
        requestLines: resolved.core.log.requests,
      },
    }
    const generation = buildGeneration(prepared, parts, this.#generation)
    for (const reason of generation.failed.values()) this.#complain(reason)
    return generation
  }

  /** Removes what a crashed daemon left in the kernel; nothing waits for it. */
  async #tidyDevices(): Promise<void> {
    try {
      const removed = (await this.#attestation?.tdx?.removeLeftovers()) ?? []
      if (removed.length > 0) this.#log.info(`Removed report entries left behind: ${removed}`)
    } catch (error) {
      this.#log.warn(`Cannot remove report entries left behind: ${messageOf(error)}`)
    }
  }

  /** Kept over reloads, as who has which GPU is. */
  #gpusOf({ machine }: Prepared): Gpus {
    this.#gpus ??= new MachineGpus({ transport: machine.transport, root: machine.root })
    return this.#gpus
  }

  /** One attester as long as neither the machine nor its configuration changes. */
  async #attesterFor({ machine, resolved }: Prepared): Promise<Attester> {
    const { attestation: config } = resolved.core
    const key = JSON.stringify([machine.tdx, machine.has('nsm'), machine.transport.kind, config])
    const previous = this.#attestation
    if (key === this.#attestationKey) return previous ?? NO_ATTESTER
    const attester = machine.has(ATTESTS)
      ? new (await import('./attester/machine-attester.ts')).MachineAttester({
          machine,
          config,
          runtimeEventsFile: config.runtime_events ?? runtimeEventsFile(resolved.paths),
          observer: deviceObserver(this.#metrics),
          previous,
        })
      : undefined
    if (this.#attestationKey !== '' && previous?.platform !== attester?.platform) {
      const names = [previous, attester].map((one) => one?.platform ?? 'nothing')
      this.#events.append(`attestation changed from ${names.join(' to ')}`)
    }
    this.#attestation = attester
    this.#attestationKey = key
    return attester ?? NO_ATTESTER
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
      const previous = this.#prepared?.machine
      const prepared = await prepare({ ...this.#options, previous })
      assertNoneLost(this.#prepared?.externals ?? [], prepared.externals)
      const report = await this.#apply(prepared)
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
    if (resolved.paths.stateDir !== old.resolved.paths.stateDir) {
      throw new Error('Cannot change state_dir while running: restart cvmd')
    }
    const next = await this.#build(prepared)
    for (const { plugin } of old.plugins) {
      // A plugin from outside that runs is worth more than its new version that does not.
      const reason = next.failed.get(plugin.name)
      if (reason !== undefined) throw new Error(reason)
    }
    // New listeners serve nothing until the generation is exchanged.
    const opened = await this.#listeners.open(resolved.listeners)
    try {
      await this.#exchange(old, next, prepared)
    } catch (error) {
      await closeAll(opened, 0)
      throw error
    }
    setLevel(this.#log, resolved.core.log.level)
    const deadline = resolved.core.shutdown_timeout_ms
    const late = await this.#listeners.use(opened, resolved.listeners, deadline)
    const warnings = [...resolved.warnings, ...late]
    this.#warn(warnings)
    const names = (plugins: Iterable<SetUpPlugin>) => [...plugins].map((p) => p.plugin.name)
    return {
      started: names(next.plugins.filter((loaded) => !next.kept.has(loaded))),
      stopped: names(old.plugins.filter((loaded) => !next.kept.has(loaded))),
      kept: names(next.kept),
      listeners: this.#listeners.names,
      warnings,
    }
  }

  /** Stops what goes, starts what comes; requests wait meanwhile. */
  async #exchange(old: Generation, next: Generation, prepared: Prepared): Promise<void> {
    let openGate = () => {}
    this.#gate = new Promise((resolve) => {
      openGate = resolve
    })
    try {
      const stopped = old.plugins.filter((loaded) => !next.kept.has(loaded))
      await stopAll(stopped, prepared.resolved.core.shutdown_timeout_ms)
      const ran = new Set(stopped.map(({ plugin }) => plugin.name))
      for (const loaded of next.plugins) {
        if (next.kept.has(loaded)) continue
        if (ran.has(loaded.plugin.name)) {
          await startPlugin(loaded, prepared.resolved.core.start_timeout_ms)
        } else await this.#startOne(loaded, next, prepared)
      }
      this.#generation = next
      this.#prepared = prepared
    } catch (error) {
      await this.#restore(old, next)
      throw error
    } finally {
      this.#gate = undefined
      openGate()
    }
  }

  /** Puts the old generation back after a new plugin failed to start; stopped ones are made anew. */
  async #restore(old: Generation, next: Generation): Promise<void> {
    const { start_timeout_ms: timeout } = old.resolved.core
    const kept = old.plugins.filter((loaded) => next.kept.has(loaded))
    await stopAll(
      next.plugins.filter((loaded) => !next.kept.has(loaded)),
      timeout,
    )
    this.#generation = { ...old, plugins: kept }
    const again = await this.#build(this.#prepared as Prepared)
    this.#generation = again
    for (const loaded of again.plugins) {
      if (kept.includes(loaded)) continue
      try {
        await startPlugin(loaded, timeout)
      } catch (error) {
        again.failed.set(loaded.plugin.name, messageOf(error))
        this.#complain(messageOf(error))
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
    await this.#listeners.close(deadline)
    await stopAll(generation?.plugins ?? [], deadline)
    await this.#unlock?.()
  }

  #view(): CoreView {
    return {
      plugins: () => (this.#generation ? pluginReports(this.#generation) : []),
      routes: (listener) => this.#generation?.mounted.get(listener)?.routes ?? [],
      notReady: () => (this.#generation ? waitingOf(this.#generation) : {}),
      metrics: () => this.#metrics.render(),
      simulated: this.#options.simulate ?? null,
      attestLog: (nonce, options) =>
        attestLog(this.#eventLog, this.#attestation ?? NO_ATTESTER, nonce, options),
      reload: () => this.reload(),
    }
  }

  #complain(reason: string): void {
    this.#log.error(reason)
    this.#events.append(reason, { level: 'error' })
  }

  #warn(warnings: readonly string[]): void {
    for (const warning of warnings) this.#log.warn(warning)
  }
}
