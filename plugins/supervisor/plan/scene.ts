import { changedFields } from '../compose/identity.ts'
import { isOldName } from '../compose/names.ts'
import { SUPERVISOR_NETWORK } from '../compose/supervisor-network.ts'
import type { Current, CurrentContainer, Halt } from './current.ts'
import { serviceKey } from './current.ts'
import type { DesiredApp, DesiredService } from './desired.ts'
import type { Images } from './images.ts'
import type { Objects } from './objects.ts'
import type { PlanOptions } from './options.ts'
import type { Why } from './steps.ts'

/** Everything about one app that its plan looks at. */
export interface Scene {
  readonly app: DesiredApp
  readonly current: Current
  readonly options: PlanOptions
  readonly images: Images
  /** The supervisor's network is not as it has to be, and somebody needs it. */
  readonly renewsSupervisorNetwork: boolean
  readonly objects: Objects
  /** Containers of the app by service, those that are no longer wanted included. */
  readonly casts: ReadonlyMap<string, Cast>
  /** Names of containers, of all apps, to their ids. */
  readonly names: ReadonlyMap<string, string>
}

/** The containers of one service. */
export interface Cast {
  /** The container of the service. */
  readonly main: CurrentContainer | undefined
  /** The one that makes room for it. */
  readonly old: CurrentContainer | undefined
  /** Others, which should not be there. */
  readonly extras: readonly CurrentContainer[]
  /** Being removed by the engine. */
  readonly leaving: readonly CurrentContainer[]
}

export const NOBODY: Cast = { main: undefined, old: undefined, extras: [], leaving: [] }

/** @param wantedHash Where several containers could be the one of the service, one with it is. */
export function castOf(
  containers: readonly CurrentContainer[],
  serviceName: string,
  wantedHash: string | undefined,
): Cast {
  const leaving = containers.filter(({ state }) => state === 'removing')
  const staying = containers
    .filter(({ state }) => state !== 'removing')
    .sort((a, b) => rank(b, wantedHash) - rank(a, wantedHash) || b.createdAt - a.createdAt)
  const main = staying.find(({ name }) => !isOldName(name, serviceName))
  const old = staying.find(({ name }) => isOldName(name, serviceName))
  const extras = staying.filter((container) => container !== main && container !== old)
  return { main, old, extras, leaving }
}

function rank(container: CurrentContainer, wantedHash: string | undefined): number {
  return (container.hash === wantedHash ? 2 : 0) + (isUp(container) ? 1 : 0)
}

/** Whether its processes exist, or will again without anybody's doing. */
export function isUp({ state }: CurrentContainer): boolean {
  return state === 'running' || state === 'restarting' || state === 'paused'
}

export function castFor(scene: Scene, serviceName: string): Cast {
  return scene.casts.get(serviceName) ?? NOBODY
}

export function haltOf(scene: Scene, { serviceName }: DesiredService): Halt | undefined {
  return scene.current.halted.get(serviceKey(scene.app.appId, serviceName))
}

/**
 * Whether a service shall run: the target says so, and no user stopped this configuration, or the
 * one that it has to stay with.
 */
export function shallRun(scene: Scene, service: DesiredService): boolean {
  const halt = haltOf(scene, service)
  if (!service.running || halt?.by !== 'user') return service.running
  if (halt.hash === service.hash) return false
  return !(
    isHeldBack(scene, service) && castFor(scene, service.serviceName).main?.hash === halt.hash
  )
}

/**
 * The configuration that is wanted was tried and failed, and there is a container to stay with. A
 * restart that was asked for is another try.
 */
export function isHeldBack(scene: Scene, { serviceName, hash }: DesiredService): boolean {
  const key = serviceKey(scene.app.appId, serviceName)
  if (scene.current.failedUpdates.get(key) !== hash) return false
  const { main, old } = castFor(scene, serviceName)
  if (main !== undefined && scene.options.recreate.has(main.id)) return false
  if (old !== undefined) return old.state !== 'dead'
  return main !== undefined && main.hash !== hash && main.state !== 'dead'
}

/**
 * Whether it is ours to start it: the engine restarts what ended by itself (spec §14). What a halt
 * stopped is started when the halt has no reason any more.
 */
export function mayBeStarted(
  scene: Scene,
  service: DesiredService,
  main: CurrentContainer,
): boolean {
  if (main.state === 'created') return true
  if (main.state !== 'exited') return false
  return (
    haltOf(scene, service) !== undefined ||
    /userland proxy.*cannot assign requested address/.test(main.error)
  )
}

/** Why a container is not the one that is wanted; undefined when it is. */
export function mismatch(
  scene: Scene,
  service: DesiredService,
  container: CurrentContainer,
): Why | undefined {
  if (scene.options.recreate.has(container.id)) return { kind: 'recreate' }
  if (container.state === 'dead') return { kind: 'dead' }
  const renewed = renewedObject(scene, container)
  if (renewed !== undefined) return renewed
  const { lostNetwork } = container
  if (lostNetwork !== undefined) return { kind: 'network', name: lostNetwork }
  if (container.hash !== service.hash) {
    const before = container.hash === undefined ? undefined : container.fields
    return { kind: 'changed', fields: changedFields(before, service.fields) }
  }
  // The same reference may name another image by now.
  const image = scene.images.idOf(service.image)
  if (container.madeFrom !== undefined && image !== undefined && container.madeFrom !== image) {
    return { kind: 'changed', fields: ['image'] }
  }
  if (service.networkOf !== undefined) {
    const owner = castFor(scene, service.networkOf).main
    if (owner !== undefined && owner.id !== container.networkOf) {
      return { kind: 'network-owner', serviceName: service.networkOf }
    }
  }
  return undefined
}

function renewedObject(
  { objects, renewsSupervisorNetwork }: Scene,
  { networks, volumes }: CurrentContainer,
): Why | undefined {
  const network = networks.find((name) => {
    return name === SUPERVISOR_NETWORK ? renewsSupervisorNetwork : objects.renewedNetworks.has(name)
  })
  if (network !== undefined) return { kind: 'network', name: network }
  const volume = volumes.find((name) => objects.renewedVolumes.has(name))
  return volume === undefined ? undefined : { kind: 'volume', name: volume }
}
