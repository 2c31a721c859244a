import * as v from 'valibot'
import { type PlacedService, readRelease } from './app.ts'
import { MAX_APPS, MAX_ITEMS, MAX_SERVICES } from './limits.ts'
import type { TargetApp } from './model.ts'
import type { JsonObject, Place } from './place.ts'
import { Commit, Id, ObjectName, Title } from './rules.ts'
import { type ReadOptions, readService } from './service.ts'

const Head = v.object({ name: Title, commit: v.optional(Commit), releaseId: v.optional(Id) })

/** Members of a service that are no composition fields. */
const NOT_COMPOSED: ReadonlySet<string> = new Set([
  'appId',
  'appUuid',
  'commit',
  'contract',
  'environment',
  'image',
  'imageId',
  'labels',
  'releaseId',
  'running',
  'serviceId',
  'serviceName',
])

/**
 * The apps of a v2 target, by app id (spec §9.2). The UUID of an app is its id in digits, its class
 * `fleet`; an app without commit has no release.
 */
export function readLocalApps(value: unknown, place: Place, options: ReadOptions): TargetApp[] {
  const apps: TargetApp[] = []
  for (const [key, given] of Object.entries(place.object(value, MAX_APPS) ?? {})) {
    const at = place.in(key)
    const appId = at.read(key, Id)
    const members = at.object(given, MAX_ITEMS)
    if (appId === undefined || members === undefined) continue
    const app = readApp(appId, members, at, options)
    if (app !== undefined) apps.push(app)
  }
  return apps
}

function readApp(
  appId: number,
  members: JsonObject,
  place: Place,
  options: ReadOptions,
): TargetApp | undefined {
  const { commit: givenCommit, releaseId: givenRelease } = members
  const head = place.read(
    { name: members.name, commit: givenCommit ?? undefined, releaseId: givenRelease ?? undefined },
    Head,
  )
  const commit = head?.commit
  if (commit !== undefined && head?.releaseId === undefined) {
    place.in('releaseId').issue('must be given with a commit')
  }
  const released = givenCommit !== undefined && givenCommit !== null
  const services = released ? readServices(members.services, place.in('services'), options) : []
  const { networks, volumes } = released ? members : {}
  const parts = readRelease({ services, networks, volumes, place })
  if (head === undefined) return undefined
  return {
    appId,
    uuid: String(appId),
    name: head.name,
    class: 'fleet',
    isHost: false,
    parentApp: undefined,
    commit,
    releaseId: commit === undefined ? undefined : head.releaseId,
    ...parts,
    rejected: undefined,
  }
}

function readServices(value: unknown, place: Place, options: ReadOptions): PlacedService[] {
  const services: PlacedService[] = []
  for (const [key, given] of Object.entries(place.object(value, MAX_SERVICES) ?? {})) {
    const at = place.in(key)
    const members = at.object(given, MAX_ITEMS)
    if (members === undefined) continue
    const serviceName = at.in('serviceName').read(members.serviceName, ObjectName)
    if (serviceName === undefined) continue
    const { serviceId = key, imageId, image, running, environment, labels, contract } = members
    const service = readService(
      {
        serviceName,
        scalars: { serviceId, imageId, image, running },
        names: { serviceId: 'serviceId', imageId: 'imageId', image: 'image', running: 'running' },
        environment,
        labels,
        contract,
        composition: members,
        compositionPlace: at,
        ignored: NOT_COMPOSED,
      },
      at,
      options,
    )
    if (service !== undefined) services.push({ service, place: at, compositionPlace: at })
  }
  return services
}
