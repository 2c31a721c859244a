import * as v from 'valibot'
import { type PlacedService, readRelease } from './app.ts'
import { MAX_APPS, MAX_ITEMS, MAX_SERVICES } from './limits.ts'
import type { TargetApp } from './model.ts'
import { isObject, type JsonObject, type Place } from './place.ts'
import { Class, Commit, Id, ObjectName, Title, Uuid } from './rules.ts'
import { type ReadOptions, readService } from './service.ts'

const Head = v.object({
  id: Id,
  name: Title,
  class: v.optional(Class, 'fleet'),
  parent_app: v.optional(Uuid),
  is_host: v.optional(v.boolean('must be true or false'), false),
})

const Release = v.object({ id: Id })

const NOT_COMPOSED: ReadonlySet<string> = new Set()

/** The apps of a v3 target, by UUID (spec §9.1). */
export function readCloudApps(value: unknown, place: Place, options: ReadOptions): TargetApp[] {
  const apps: TargetApp[] = []
  for (const [uuid, given] of Object.entries(place.object(value, MAX_APPS) ?? {})) {
    const at = place.in(uuid)
    at.read(uuid, Uuid)
    const members = at.object(given, MAX_ITEMS)
    const app = members && readApp(uuid, members, at, options)
    if (app !== undefined) apps.push(app)
  }
  return apps
}

function readApp(
  uuid: string,
  members: JsonObject,
  place: Place,
  options: ReadOptions,
): TargetApp | undefined {
  const head = place.read(members, Head)
  const releases = place.in('releases').object(members.releases, MAX_ITEMS)
  const [commit, ...others] = Object.keys(releases ?? {})
  if (others.length > 0) place.in('releases').warn('has several releases: the first is used')
  const at = place.in('releases').in(commit ?? '')
  const given = commit === undefined ? undefined : releases?.[commit]
  if (commit !== undefined) at.read(commit, Commit)
  const release = commit === undefined ? undefined : at.object(given, MAX_ITEMS)
  const releaseId = release && at.read(release, Release)?.id
  const services = release ? readServices(release.services, at.in('services'), options) : []
  const { networks, volumes } = release ?? {}
  const parts = readRelease({ services, networks, volumes, place: at })
  if (head === undefined) return undefined
  return {
    appId: head.id,
    uuid,
    name: head.name,
    class: head.class,
    isHost: head.is_host,
    parentApp: head.parent_app,
    commit,
    releaseId,
    ...parts,
    rejected: undefined,
  }
}

function readServices(value: unknown, place: Place, options: ReadOptions): PlacedService[] {
  const services: PlacedService[] = []
  for (const [serviceName, given] of Object.entries(place.object(value, MAX_SERVICES) ?? {})) {
    const at = place.in(serviceName)
    at.read(serviceName, ObjectName)
    const members = at.object(given, MAX_ITEMS)
    if (members === undefined) continue
    const { id: serviceId, image_id: imageId, image, running } = members
    const { environment, labels, contract, composition = {} } = members
    const compositionPlace = at.in('composition')
    if (!isObject(composition)) compositionPlace.issue('must be an object')
    const service = readService(
      {
        serviceName,
        scalars: { serviceId, imageId, image, running },
        names: { serviceId: 'id', imageId: 'image_id', image: 'image', running: 'running' },
        environment,
        labels,
        contract,
        composition: isObject(composition) ? composition : {},
        compositionPlace,
        ignored: NOT_COMPOSED,
      },
      at,
      options,
    )
    if (service !== undefined) services.push({ service, place: at, compositionPlace })
  }
  return services
}
