import type { Engine } from '../../../src/engine/engine.ts'
import { isEngineError } from '../../../src/engine/error.ts'
import { messageOf } from '../../../src/errors.ts'
import type { EventSink } from '../../../src/events/sink.ts'
import { volumeName } from '../compose/names.ts'
import type { KnownContainer } from '../engine-state/objects.ts'
import type { Locks } from '../locks/locks.ts'
import { serviceKey } from '../plan/current.ts'
import type { OperationOptions, ServiceId, Supervisor } from '../supervisor.ts'
import { startContainer, stopContainer } from './containers.ts'
import { Operation } from './operation.ts'
import { SupervisorError } from './supervisor-error.ts'
import { rolesOf, type Seen } from './views.ts'

export interface ActionsOptions extends Seen {
  readonly engine: Engine
  readonly locks: Locks
  readonly events: EventSink
}

/** What callers of the API have done with apps, services and volumes. */
export type Actions = Pick<
  Supervisor,
  | 'restartApp'
  | 'purgeApp'
  | 'startService'
  | 'stopService'
  | 'restartService'
  | 'cleanupVolumes'
  | 'withLocks'
>

const never = new AbortController().signal

export function createActions(options: ActionsOptions): Actions {
  const { applier, engine, events, locks, memory, state } = options

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

  /** An engine that was never there does not say which apps run. */
  function appsThatMayLock(): number[] {
    const apps = [...state.containers(), ...(applier.target?.apps ?? [])]
    return [...new Set(apps.map(({ appId }) => appId))]
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
    { force = false, signal = never }: OperationOptions,
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

  return {
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
      const ids = appIds === 'all' ? appsThatMayLock() : [...appIds]
      const held = await locks.acquire(ids, lockOptions(force, signal))
      try {
        return await work(held)
      } finally {
        await held.release()
      }
    },
  }
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
