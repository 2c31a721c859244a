import { readCloudApps } from './cloud-form.ts'
import { TargetError } from './error.ts'
import { MAX_ITEMS, MAX_VARIABLES } from './limits.ts'
import { readLocalApps } from './local-form.ts'
import type { Target, TargetApp, TargetWarning } from './model.ts'
import { isObject, type JsonObject, Place, Problems } from './place.ts'
import { convertOldest } from './preload-array.ts'
import { ConfigName, Title } from './rules.ts'
import { type ReadOptions, readRecord } from './service.ts'

export interface ParseOptions extends Partial<ReadOptions> {
  /** What would be left out makes the target unusable. */
  readonly strict?: boolean
}

export interface ParsedTarget {
  readonly target: Target
  /** What was left out, or will have another effect than it says; at most `MAX_PROBLEMS`. */
  readonly warnings: readonly TargetWarning[]
}

/**
 * The target of one device in v3 form, keyed by device UUID (spec §9.1).
 *
 * @throws {TargetError} For any JSON that is no such target.
 */
export function parseCloudTarget(
  json: unknown,
  deviceUuid: string,
  options: ParseOptions = {},
): ParsedTarget {
  return parse(json, options, (root, place, read) => {
    if (!Object.hasOwn(root, deviceUuid)) return place.issue('does not name this device')
    const at = place.in(deviceUuid)
    const device = at.object(root[deviceUuid], MAX_ITEMS)
    if (device === undefined) return undefined
    const deviceName = at.in('name').read(device.name, Title)
    const config = readConfig(device.config, at.in('config'))
    const apps = readCloudApps(device.apps, at.in('apps'), read)
    return { deviceName, config, apps: unique(apps, at.in('apps')) }
  })
}

/**
 * A target in v2 form, as `POST /v2/local/target-state` takes it (spec §9.2). Other members of the
 * body, such as `force`, are not looked at.
 *
 * @throws {TargetError} For any JSON that is no such target.
 */
export function parseLocalTarget(json: unknown, options: ParseOptions = {}): ParsedTarget {
  return parse(json, options, (root, place, read) => {
    const at = place.in('local')
    const local = at.object(root.local, MAX_ITEMS)
    if (local === undefined) return undefined
    const named = local.name !== undefined && local.name !== null
    const deviceName = named ? at.in('name').read(local.name, Title) : undefined
    const config = readConfig(local.config ?? {}, at.in('config'))
    const apps = readLocalApps(local.apps, at.in('apps'), read)
    return { deviceName, config, apps: unique(apps, at.in('apps')) }
  })
}

export interface PreloadedTarget extends ParsedTarget {
  /** The device stays on the release that came with it. */
  readonly pinDevice: boolean
}

/**
 * The file `apps.json` (spec §9.3): apps by UUID, by number in v2 form, or the oldest form, a list
 * of apps with one container each.
 *
 * @throws {TargetError} For any JSON that is no such file.
 */
export function parsePreloaded(json: unknown, options: ParseOptions = {}): PreloadedTarget {
  const file = Array.isArray(json) ? convertOldest(json) : json
  const pinDevice = isObject(file) && file.pinDevice === true
  const parsed = parse(file, options, (root, place, read) => {
    const config = readConfig(root.config ?? {}, place.in('config'))
    const at = place.in('apps')
    const members = at.object(root.apps, MAX_ITEMS)
    if (members === undefined) return undefined
    const local = Object.values(members).some((app) => isObject(app) && !isObject(app.releases))
    const apps = local ? readLocalApps(members, at, read) : readCloudApps(members, at, read)
    for (const app of apps) {
      if (app.commit === undefined) at.in(app.uuid).issue('must have a release')
    }
    return { deviceName: undefined, config, apps: unique(apps, at) }
  })
  return { ...parsed, pinDevice }
}

function parse(
  json: unknown,
  { strict = false, requireDigest = false }: ParseOptions,
  read: (root: JsonObject, place: Place, options: ReadOptions) => Target | undefined,
): ParsedTarget {
  const problems = new Problems()
  const place = new Place(problems)
  const root = place.object(json, MAX_ITEMS)
  const target = root && read(root, place, { requireDigest })
  if (target === undefined || problems.issues.length > 0) throw new TargetError(problems.issues)
  if (strict && problems.warnings.length > 0) throw new TargetError([], problems.warnings)
  return { target, warnings: problems.warnings }
}

function readConfig(value: unknown, place: Place): Record<string, string> {
  return readRecord(value, place, ConfigName, MAX_VARIABLES) ?? {}
}

function unique(apps: TargetApp[], place: Place): TargetApp[] {
  const ids = new Set<number>()
  const uuids = new Set<string>()
  for (const { appId, uuid } of apps) {
    const folded = uuid.toLowerCase()
    if (ids.has(appId)) place.in(uuid).issue('has the id of another app')
    if (uuids.has(folded)) place.in(uuid).issue('has the UUID of another app')
    ids.add(appId)
    uuids.add(folded)
  }
  return apps
}
