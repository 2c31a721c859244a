import type { Current, CurrentNetwork, CurrentVolume } from './current.ts'
import type { DesiredApp } from './desired.ts'
import type { PlanOptions } from './options.ts'
import type { RoundBuilder } from './round.ts'

/** What becomes of the networks and volumes of one app. */
export interface Objects {
  /** Names of those that are wanted, are there, and have to be made anew. */
  readonly renewedNetworks: ReadonlySet<string>
  readonly renewedVolumes: ReadonlySet<string>
  readonly staleNetworks: readonly CurrentNetwork[]
  readonly staleVolumes: readonly CurrentVolume[]
  /** Names of wanted volumes that stay although their configuration changed. */
  readonly keptVolumes: readonly string[]
  /** Names that are there as they are wanted. */
  readonly readyNetworks: ReadonlySet<string>
  readonly readyVolumes: ReadonlySet<string>
}

/** @param gone The target does not name the app any more. */
export function sortObjects(
  app: DesiredApp,
  gone: boolean,
  current: Current,
  options: PlanOptions,
): Objects {
  return { ...sortNetworks(app, current), ...sortVolumes(app, gone, current, options) }
}

function sortNetworks(app: DesiredApp, current: Current) {
  const wanted = new Map(app.networks.map(({ name, hash }) => [name, hash]))
  const ready = new Set<string>()
  const stale: CurrentNetwork[] = []
  for (const network of current.networks) {
    if (network.appId !== app.appId) continue
    // The engine allows several of one name: the first good one stays.
    const good = wanted.get(network.name) === network.hash && !ready.has(network.name)
    if (good && network.hash !== undefined) ready.add(network.name)
    else stale.push(network)
  }
  const renewed = stale.map(({ name }) => name).filter((name) => wanted.has(name))
  return {
    readyNetworks: ready,
    staleNetworks: stale,
    renewedNetworks: new Set(renewed.filter((name) => !ready.has(name))),
  }
}

function sortVolumes(app: DesiredApp, gone: boolean, current: Current, options: PlanOptions) {
  const wanted = new Map(app.volumes.map(({ name, hash }) => [name, hash]))
  const ready = new Set<string>()
  const stale: CurrentVolume[] = []
  const kept: string[] = []
  const clear = (gone && !options.keepVolumes) || options.clearVolumesOf.has(app.appId)
  for (const volume of current.volumes) {
    if (volume.appId !== app.appId) continue
    const hash = wanted.get(volume.name)
    if (hash === undefined) {
      if (clear) stale.push(volume)
    } else if (volume.hash !== undefined && volume.hash !== hash && options.replaceVolumes) {
      stale.push(volume)
    } else {
      ready.add(volume.name)
      if (volume.hash !== undefined && volume.hash !== hash) kept.push(volume.name)
    }
  }
  const taken = current.taken?.volumes
  for (const name of wanted.keys()) if (taken?.has(name)) ready.add(name)
  return {
    readyVolumes: ready,
    staleVolumes: stale,
    keptVolumes: kept,
    renewedVolumes: new Set(stale.map(({ name }) => name).filter((name) => wanted.has(name))),
  }
}

/** Makes what is missing, and removes what nothing is attached to any more. */
export function planObjects(
  app: DesiredApp,
  objects: Objects,
  current: Current,
  round: RoundBuilder,
): void {
  const attached = new Set(current.containers.flatMap(({ networks }) => networks))
  const mounted = new Set(current.containers.flatMap(({ volumes }) => volumes))
  for (const { id, name } of objects.staleNetworks) {
    if (!attached.has(name)) round.step({ kind: 'remove-network', id, name })
    // A second one of a good name does no harm.
    else if (!objects.readyNetworks.has(name)) round.wait('removing', `network ${name} is in use`)
  }
  for (const { name } of objects.staleVolumes) {
    if (!mounted.has(name)) round.step({ kind: 'remove-volume', name })
    else round.wait('removing', `volume ${name} is in use`)
  }
  const there = new Set(objects.staleNetworks.map(({ name }) => name))
  for (const { shortName, name } of app.networks) {
    if (objects.readyNetworks.has(name) || there.has(name)) continue
    if (current.taken?.networks.has(name)) {
      round.wait('name-taken', `network ${name} is not ours`)
    } else round.step({ kind: 'create-network', network: shortName, name })
  }
  for (const { shortName, name } of app.volumes) {
    if (objects.readyVolumes.has(name) || objects.renewedVolumes.has(name)) continue
    round.step({ kind: 'create-volume', volume: shortName, name })
  }
  for (const name of objects.keptVolumes) {
    round.wait('volume-changed', `volume ${name} keeps its data, and so its old configuration`)
  }
}
