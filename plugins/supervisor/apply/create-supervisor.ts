import { isEngineError } from '../../../src/engine/error.ts'
import { messageOf } from '../../../src/errors.ts'
import type { EventSink } from '../../../src/events/sink.ts'
import { volumeName } from '../compose/names.ts'
import { EngineState } from '../engine-state/engine-state.ts'
import type { KnownContainer } from '../engine-state/objects.ts'
import { serviceKey } from '../plan/current.ts'
import { reportedApps } from '../report/apps.ts'
import { Reporter } from '../report/reporter.ts'
import { FileSource } from '../sources/file-source.ts'
import type { TargetSource } from '../sources/source.ts'
import { UrlSource } from '../sources/url-source.ts'
import { Memory } from '../store/memory.ts'
import type {
  AppView,
  ImageView,
  ServiceId,
  StatusView,
  Supervisor,
  SupervisorOptions,
} from '../supervisor.ts'
import { Applier } from './applier.ts'
import { startContainer, stopContainer } from './containers.ts'
import { LogStream } from './log-stream.ts'
import { Operation } from './operation.ts'
import { SupervisorError } from './supervisor-error.ts'
import { TargetKeeper } from './target-keeper.ts'
import { appViews, imageViews, rolesOf, statusView } from './views.ts'

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
  const never = new AbortController().signal
  const ended = new AbortController()
  const listeners = new Set<() => void>()
  let revision = 0
  let telling = false
  let started = false
  let views: Partial<{ apps: AppView[]; images: ImageView[]; status: StatusView }> = {}
  let viewed = -1

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
  const seen = { applier, state, memory }

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

  function view<Name extends keyof typeof views>(
    name: Name,
    make: () => NonNullable<(typeof views)[Name]>,
  ): NonNullable<(typeof views)[Name]> {
    if (viewed !== revision) {
      views = {}
      viewed = revision
    }
    const known = views[name]
    if (known !== undefined) return known as NonNullable<(typeof views)[Name]>
    const made = make()
    views[name] = made
    return made
  }

  function assertEngine(): void {
    if (state.connected) return
    const message = `The container engine does not answer: ${state.problem}`
    throw new SupervisorError('ENGINE_AWAY', message)
  }

  /** The container that a request about a service is for. */
  function boxOf({ appId, serviceName }: ServiceId): KnownContainer {
    assertEngine()
    const boxes = state.containersOf(appId)
    const app = applier.appOf(appId)
    if (app === undefined && boxes.length === 0) throw SupervisorError.appNotFound()
    const { main } = rolesOf(
      boxes.filter((one) => one.serviceName === serviceName),
      serviceName,
    )
    if (main === undefined) throw SupervisorError.serviceNotFound()
    const wanted = app?.services.some((one) => one.serviceName === serviceName)
    if (!wanted) throw SupervisorError.notInTarget()
    return main
  }

  async function endHalts(appId: number, services: readonly string[]): Promise<void> {
    for (const serviceName of services) {
      const key = serviceKey(appId, serviceName)
      if (memory.halts.get(key)?.by === 'user') await memory.setHalt(key, undefined)
      await memory.setFailedUpdate(key, undefined)
    }
  }

  async function operateOnApp(
    appId: number,
    { force = false, signal = never }: { force?: boolean; signal?: AbortSignal },
    purge: boolean,
  ): Promise<void> {
    assertEngine()
    if (applier.appOf(appId) === undefined) throw SupervisorError.notInstalled(appId)
    await applier.requests.operate(appId, signal, async () => {
      const app = applier.appOf(appId)
      if (app === undefined) throw SupervisorError.notInstalled(appId)
      events.append(`app ${appId} is to be ${purge ? 'purged' : 'restarted'}: it was asked for`)
      // Refused by a lock it shall leave everything as it was.
      if (!force) await locks.withLocks([appId], lockOptions(force, signal), () => {})
      await endHalts(
        appId,
        app.services.map(({ serviceName }) => serviceName),
      )
      return new Operation({
        recreate: state.containersOf(appId).map(({ id }) => id),
        force,
        purge,
      })
    })
  }

  function lockOptions(force: boolean, signal: AbortSignal) {
    return { force, override: applier.settings.overrideLock, signal }
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
    },

    get revision() {
      return revision
    },
    apps: () => view('apps', () => appViews(seen)),
    app: (appId) => supervisor.apps().find((app) => app.appId === appId),
    images: () => view('images', () => imageViews(seen)),
    status: () => view('status', () => statusView(seen)),
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

    restartApp: (appId, how = {}) => operateOnApp(appId, how, false),
    purgeApp: (appId, how = {}) => operateOnApp(appId, how, true),

    async startService(service, { signal = never } = {}) {
      const { appId, serviceName } = service
      boxOf(service)
      return await applier.requests.exclusively(appId, signal, async () => {
        const box = boxOf(service)
        const key = serviceKey(appId, serviceName)
        const halt = memory.halts.get(key)
        await memory.setHalt(key, undefined)
        try {
          await failing(startContainer(box, applier.hands))
        } catch (error) {
          await memory.setHalt(key, halt)
          throw error
        }
        events.append(`service ${serviceName} of app ${appId} started: it was asked for`)
        return box.id
      })
    },

    async stopService(service, { force = false, signal = never } = {}) {
      const { appId, serviceName } = service
      boxOf(service)
      return await applier.requests.exclusively(appId, signal, async () => {
        const box = boxOf(service)
        // The lane's own locks are given back by its next round.
        await applier.lane(appId).unlock()
        return await locks.withLocks([appId], lockOptions(force, signal), async () => {
          const key = serviceKey(appId, serviceName)
          await memory.setHalt(key, { by: 'user', hash: box.hash ?? '' })
          await failing(stopContainer(box.id, applier.hands))
          events.append(`service ${serviceName} of app ${appId} stopped: it was asked for`)
          return box.id
        })
      })
    },

    async restartService(service, { force = false, signal = never } = {}) {
      const { appId, serviceName } = service
      boxOf(service)
      await applier.requests.operate(appId, signal, async () => {
        const box = boxOf(service)
        if (!force) await locks.withLocks([appId], lockOptions(force, signal), () => {})
        events.append(`service ${serviceName} of app ${appId} is to be restarted: it was asked for`)
        await endHalts(appId, [serviceName])
        return new Operation({ recreate: [box.id], force, services: [serviceName] })
      })
    },

    async cleanupVolumes({ dryRun = false, apps = () => true } = {}) {
      assertEngine()
      const mounted = state.mountedVolumes()
      const named = new Set(
        (applier.target?.apps ?? []).flatMap(({ appId, volumes }) =>
          Object.keys(volumes).map((name) => volumeName(appId, name)),
        ),
      )
      const unused = [...state.volumes()]
        .filter(({ appId, name }) => apps(appId) && !mounted.has(name) && !named.has(name))
        .map(({ name }) => name)
      if (dryRun) return unused
      const removed: string[] = []
      for (const name of unused) {
        try {
          await engine.volumes.remove(name)
        } catch (error) {
          // Somebody began to use it just now.
          if (isEngineError(error, 'ENGINE_CONFLICT')) continue
          if (!isEngineError(error, 'ENGINE_NOT_FOUND')) throw failed(error)
        }
        state.removeVolume(name)
        removed.push(name)
        events.append(`volume ${name} removed: nothing uses it`)
      }
      return removed
    },

    async withLocks(appIds, { force = false, signal = never }, work) {
      const ids =
        appIds === 'all'
          ? [...new Set([...state.containers()].map(({ appId }) => appId))]
          : [...appIds]
      const held = await locks.acquire(ids, lockOptions(force, signal))
      try {
        return await work(held)
      } finally {
        await held.release()
      }
    },

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

async function failing<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    throw failed(error)
  }
}

function failed(error: unknown): unknown {
  if (!isEngineError(error)) return error
  const away = isEngineError(error, 'ENGINE_UNREACHABLE')
  const code = away ? 'ENGINE_AWAY' : 'OPERATION_FAILED'
  return new SupervisorError(code, messageOf(error), { cause: error })
}
