import type { NetworkComposition, VolumeComposition } from './composition-model.ts'
import { findCycle } from './dependencies.ts'
import { MAX_OBJECTS } from './limits.ts'
import type { TargetApp, TargetService } from './model.ts'
import { readNetwork, readVolume } from './objects.ts'
import type { Place } from './place.ts'
import { ObjectName } from './rules.ts'

/** Where a service stands in the target, for what is found out about it later. */
export interface PlacedService {
  readonly service: TargetService
  readonly place: Place
  readonly compositionPlace: Place
}

/** What a release has beside its ids. */
export interface ReleaseParts {
  readonly services: readonly PlacedService[]
  readonly networks: unknown
  readonly volumes: unknown
  readonly place: Place
}

/**
 * Reads networks and volumes, and settles what services say of them and of each other: a service
 * keeps only networks and dependencies that exist, a volume that only a service names is one of the
 * app, and no dependencies go in a circle.
 */
export function readRelease(
  parts: ReleaseParts,
): Pick<TargetApp, 'services' | 'networks' | 'volumes'> {
  const networks = readObjects(parts.networks, parts.place.in('networks'), readNetwork)
  const volumes = readObjects(parts.volumes, parts.place.in('volumes'), readVolume)
  const names = new Set<string>()
  for (const { service, place } of parts.services) {
    if (names.has(service.serviceName)) place.issue('has the name of another service of this app')
    names.add(service.serviceName)
  }
  const services = parts.services.map((placed) => settle(placed, names, networks, volumes))
  const cycle = findCycle(services)
  if (cycle !== undefined) {
    const first = parts.services.find(({ service }) => service.serviceName === cycle[0])
    const place = first?.compositionPlace ?? parts.place
    place.in('depends_on').issue(`must not lead back to itself: ${cycle.join(' -> ')}`)
  }
  return { services, networks: Object.fromEntries(networks), volumes: Object.fromEntries(volumes) }
}

function readObjects<T extends NetworkComposition | VolumeComposition>(
  value: unknown,
  place: Place,
  read: (value: unknown, place: Place) => T,
): Map<string, T> {
  const objects = new Map<string, T>()
  if (value === undefined || value === null) return objects
  const found = place.object(value, MAX_OBJECTS)
  for (const [key, composition] of Object.entries(found ?? {})) {
    const at = place.in(key)
    const name = at.read(key, ObjectName)
    if (name !== undefined) objects.set(name, read(composition, at))
  }
  return objects
}

function settle(
  { service, compositionPlace: place }: PlacedService,
  names: ReadonlySet<string>,
  networks: ReadonlyMap<string, unknown>,
  volumes: Map<string, VolumeComposition>,
): TargetService {
  const { network_mode: mode, networks: attached, volumes: mounts, ...rest } = service.composition
  if (mode?.kind === 'service' && !names.has(mode.serviceName)) {
    place.in('network_mode').issue('must name a service of this app')
  }
  const dependsOn = service.dependsOn.filter(({ serviceName }) => {
    if (names.has(serviceName)) return true
    // That it does not exist was said above.
    if (mode?.kind === 'service' && mode.serviceName === serviceName) return true
    place.in('depends_on').in(serviceName).warn('is left out: this app has no such service')
    return false
  })
  const kept = Object.entries(attached ?? {}).filter(([name]) => {
    if (name === 'default' || networks.has(name)) return true
    place.in('networks').in(name).warn('is left out: this app has no such network')
    return false
  })
  for (const mount of mounts ?? []) {
    if (mount.type === 'named' && !volumes.has(mount.source)) volumes.set(mount.source, {})
  }
  if (mode !== undefined && kept.length > 0) {
    place.in('networks').warn('is left out: network_mode says which network is used')
  }
  return {
    ...service,
    dependsOn,
    composition: {
      ...rest,
      ...(mode === undefined ? {} : { network_mode: mode }),
      ...(mode !== undefined || kept.length === 0 ? {} : { networks: Object.fromEntries(kept) }),
      ...(mounts === undefined ? {} : { volumes: mounts }),
    },
  }
}
