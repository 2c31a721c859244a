import type { EventSink } from '../../../src/events/sink.ts'
import { EngineState } from '../engine-state/engine-state.ts'
import { reportedApps } from '../report/apps.ts'
import { Reporter } from '../report/reporter.ts'
import { FileSource } from '../sources/file-source.ts'
import type { TargetSource } from '../sources/source.ts'
import { UrlSource } from '../sources/url-source.ts'
import { Memory } from '../store/memory.ts'
import type { Supervisor, SupervisorOptions } from '../supervisor.ts'
import { createActions } from './actions.ts'
import { Applier } from './applier.ts'
import { KeptViews } from './kept-views.ts'
import { LogStream } from './log-stream.ts'
import { TargetKeeper } from './target-keeper.ts'

/** A round that takes longer than twice the poll interval is stuck (spec §17). */
const STUCK_INTERVALS = 2

/** Opens nothing before {@link Supervisor.start}. */
export function createSupervisor(options: SupervisorOptions): Supervisor {
  const { engine, locks, stateFolder } = options
  const logs = new LogStream({ engine, containers: () => state.containers() })
  const events: EventSink = {
    append: (message, how) => {
      logs.system(message)
      return options.events.append(message, how)
    },
  }
  const warn = (message: string) => void events.append(message, { level: 'warn' })
  const ended = new AbortController()
  const listeners = new Set<() => void>()
  let revision = 0
  let telling = false
  let started = false

  const changed = () => {
    revision++
    if (telling) return
    telling = true
    queueMicrotask(() => {
      telling = false
      logs.changed()
      reporter?.changed()
      for (const listener of listeners) listener()
    })
  }
  const state = new EngineState({
    engine,
    subnet: options.subnet,
    onChange: () => applier.kick(),
    onConnection: (connected, reason) => {
      if (connected) {
        applier.forgive()
        events.append('the container engine is there')
      } else warn(`the container engine is away: ${reason}`)
      applier.kick()
    },
  })
  const memory = new Memory({ folder: stateFolder, onDamaged: warn })
  const keeper = new TargetKeeper({
    ...options,
    events,
    onTarget: (target, { force }) => applier.setTarget(target, { force }),
  })
  const applier: Applier = new Applier({
    ...options,
    state,
    memory,
    events,
    policy: {
      bootTime: options.bootTime,
      replaceVolumes: options.replaceVolumes ?? false,
      trial: options.trial,
    },
    localMode: () => keeper.localMode,
    onChange: changed,
  })
  const source = sourceOf()
  const reporter = options.report && reporterOf(options.report)
  const actions = createActions({ engine, locks, events, applier, state, memory })
  const views = new KeptViews({ applier, state, memory }, () => revision)

  function sourceOf(): TargetSource | undefined {
    const from = keeper.fetched
    if (from === undefined) return undefined
    const shared = {
      onTarget: (body: unknown) => keeper.accept(body, from),
      onProblem: (problem: string | undefined) => {
        if (problem === undefined) events.append(`targets come from source ${from} again`)
        else warn(problem)
        changed()
      },
    }
    const { targetUrl, targetFile } = options
    if (targetUrl) {
      return new UrlSource({
        ...shared,
        url: targetUrl.url,
        token: targetUrl.token,
        intervalMs: () => targetUrl.intervalMs ?? applier.settings.pollIntervalMs,
        timeoutMs: () => applier.settings.apiRequestTimeoutMs,
      })
    }
    return new FileSource({ ...shared, path: targetFile ?? '' })
  }

  function reporterOf(to: NonNullable<SupervisorOptions['report']>): Reporter {
    return new Reporter({
      url: to.url,
      token: to.token,
      intervalMs: to.intervalMs,
      deviceUuid: options.deviceUuid,
      state: () => ({
        ...to.device?.(),
        ...(keeper.localMode && keeper.fetched ? {} : { apps: reportedApps(supervisor.apps()) }),
      }),
      maxRetryMs: () => applier.settings.pollIntervalMs,
      timeoutMs: () => applier.settings.apiRequestTimeoutMs,
      onProblem: (problem) => {
        if (problem === undefined) events.append('reports are accepted again')
        else warn(problem)
      },
    })
  }

  const supervisor: Supervisor = {
    async start() {
      if (started) return
      started = true
      for (const path of await locks.start()) warn(`left-over lock ${path} removed`)
      await memory.open()
      await keeper.open()
      applier.start()
      state.start(ended.signal)
      source?.start()
      reporter?.start()
    },

    async stop() {
      ended.abort()
      await source?.stop()
      await reporter?.stop()
      await applier.stop()
      await state.ended()
      // Another supervisor may have the folder now.
      await Promise.all([memory.close(), keeper.close()])
    },

    get revision() {
      return revision
    },
    apps: () => views.apps(),
    app: (appId) => supervisor.apps().find((app) => app.appId === appId),
    images: () => views.images(),
    status: () => views.status(),
    target: () => ({
      target: keeper.target,
      source: keeper.target && keeper.source,
      sourceOf: () => keeper.source ?? 'local',
    }),
    settings: () => applier.settings,
    get localMode() {
      return keeper.localMode
    },

    health() {
      const problems: string[] = []
      if (!started || ended.signal.aborted) problems.push('the supervisor does not run')
      if (applier.planProblem !== undefined) problems.push(applier.planProblem)
      const limit = STUCK_INTERVALS * applier.settings.pollIntervalMs
      for (const { appId, busy, busySince } of [applier.shared, ...applier.lanes.values()]) {
        if (!busy || performance.now() - busySince < limit) continue
        problems.push(appId === undefined ? 'shared work is stuck' : `app ${appId} is stuck`)
      }
      return {
        healthy: problems.length === 0,
        problems,
        engineConnected: state.connected,
        targetFetched: source?.good,
      }
    },

    notReady() {
      if (state.connected) return undefined
      return `the container engine at ${engine.socketPath} does not answer: ${state.problem}`
    },

    setTarget: (body, how = {}) => keeper.accept(body, 'local', how),

    async update({ force = false, cancel = false } = {}) {
      if (!force && !applier.settings.instantUpdates) return { triggered: false }
      if (cancel) {
        await applier.pulls.abort()
        events.append('what was being pulled is cancelled: it was asked for')
      }
      applier.forgive()
      if (force) {
        for (const { appId } of applier.target?.apps ?? []) applier.lane(appId).forced = true
      }
      applier.kick()
      void keeper.retry().then(() => source?.refresh())
      return { triggered: true }
    },

    ...actions,

    suspend: () => applier.suspend(),
    contextChanged: () => applier.contextChanged(),
    keyOf: (appId, serviceName) => options.context().api.keyOf(appId, serviceName),
    followLogs: (signal) => logs.follow(signal),
    onChange(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
  }
  return supervisor
}
