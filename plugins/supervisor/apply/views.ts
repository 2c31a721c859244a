import { imageKey } from '../compose/image-key.ts'
import { containerName, isOldName, readContainerName } from '../compose/names.ts'
import type { EngineState } from '../engine-state/engine-state.ts'
import type { KnownContainer } from '../engine-state/objects.ts'
import { serviceKey } from '../plan/current.ts'
import { groupBy } from '../plan/group.ts'
import type { Memory } from '../store/memory.ts'
import type {
  AppView,
  ContainerView,
  ImageView,
  ServiceView,
  StatusView,
  UpdateStatus,
} from '../supervisor.ts'
import type { TargetApp, TargetService } from '../target/model.ts'
import type { Applier } from './applier.ts'
import type { Lane } from './lane.ts'

/** What views are made of. */
export interface Seen {
  readonly applier: Applier
  readonly state: EngineState
  readonly memory: Memory
}

export function appViews(seen: Seen): AppView[] {
  const { applier, state } = seen
  const containers = groupBy([...state.containers()], ({ appId }) => appId)
  const wanted = applier.target?.apps ?? []
  const known = new Set(wanted.map(({ appId }) => appId))
  const left = [...containers.keys()].filter((appId) => !known.has(appId)).sort((a, b) => a - b)
  return [
    ...wanted.map((app) => appView(seen, app, app.appId, containers.get(app.appId) ?? [])),
    ...left.map((appId) => appView(seen, undefined, appId, containers.get(appId) ?? [])),
  ]
}

export function imageViews({ applier, state }: Seen): ImageView[] {
  return (applier.target?.apps ?? []).flatMap(({ appId, services }) =>
    services.flatMap(({ serviceName, imageId, image }): ImageView[] => {
      const progress = applier.pulls.progressOf(image)
      const engineImageId = state.imageId(image)
      if (progress === undefined && engineImageId === undefined) return []
      return [
        {
          name: image,
          appId,
          serviceName,
          imageId,
          engineImageId,
          status: progress === undefined ? 'Downloaded' : 'Downloading',
          downloadProgress: progress ?? null,
        },
      ]
    }),
  )
}

export function statusView({ applier }: Seen): StatusView {
  const lanes = [applier.shared, ...applier.lanes.values()]
  const applying = lanes.some((lane) => applier.isApplying(lane))
  return {
    appState: applying ? 'applying' : 'applied',
    overallDownloadProgress: applier.pulls.progress ?? null,
    updatePending: applying,
    updateFailed:
      lanes.some(({ problem, fallsShort }) => problem !== undefined || fallsShort) ||
      applier.pulls.failed.size > 0,
    updateDownloaded: applier.downloaded,
  }
}

function appView(
  seen: Seen,
  app: TargetApp | undefined,
  appId: number,
  containers: readonly KnownContainer[],
): AppView {
  const { applier, memory } = seen
  const lane = applier.lanes.get(appId)
  const [first] = containers
  const release = first && readContainerName(first.name)
  const byService = groupBy(containers, ({ serviceName }) => serviceName)
  const services = (app?.services ?? []).map((service) => {
    return serviceView(seen, appId, app, service, byService.get(service.serviceName) ?? [])
  })
  const named = new Set(services.map(({ serviceName }) => serviceName))
  const others = [...byService].flatMap(([serviceName, boxes]) =>
    named.has(serviceName) ? [] : [leftView(seen, serviceName, boxes)],
  )
  return {
    appId,
    uuid: app?.uuid ?? first?.uuid ?? '',
    name: app?.name ?? '',
    wanted: app !== undefined,
    commit: app ? app.commit : release?.commit,
    releaseId: app ? app.releaseId : release?.releaseId,
    appliedCommit: memory.commits.get(appId),
    updateStatus: updateStatus(seen, app, lane),
    problem: lane?.problem,
    waits: lane?.round.waits.map(({ message }) => message) ?? [],
    services: [...services, ...others],
  }
}

function updateStatus(
  { applier }: Seen,
  app: TargetApp | undefined,
  lane: Lane | undefined,
): UpdateStatus {
  if (app?.rejected !== undefined) return 'rejected'
  const { downloads } = applier.pulls
  if (app?.services.some(({ image }) => downloads.has(imageKey(image)))) return 'downloading'
  if (lane === undefined) return 'done'
  if (lane.problem !== undefined || lane.fallsShort) return 'aborted'
  if (lane.round.waits.some(({ kind }) => kind === 'pull-retry')) return 'aborted'
  if (!applier.isApplying(lane)) return 'done'
  const begun = lane.busy !== undefined || lane.round.steps.length > 0
  return !begun && applier.downloaded ? 'downloaded' : 'applying changes'
}

function serviceView(
  seen: Seen,
  appId: number,
  app: TargetApp | undefined,
  service: TargetService,
  boxes: readonly KnownContainer[],
): ServiceView {
  const { applier, memory, state } = seen
  const { serviceName, serviceId, imageId, image } = service
  const { main, old } = rolesOf(boxes, serviceName)
  const shown = main ?? old
  const halt = memory.halts.get(serviceKey(appId, serviceName))
  const progress = applier.pulls.progressOf(image)
  const release = shown && readContainerName(shown.name)
  const current = app && shown ? shown.name === containerName(service, app) : true
  return {
    serviceName,
    serviceId,
    imageId: shown && !current ? (release?.imageId ?? imageId) : imageId,
    releaseId: shown && !current ? (release?.releaseId ?? 0) : (app?.releaseId ?? 0),
    image,
    wanted: true,
    status: statusOf(),
    downloadProgress: progress ?? null,
    stoppedByUser: halt?.by === 'user',
    container: shown && containerView(shown),
  }

  function statusOf(): string {
    const doing = shown && applier.doings.get(shown.id)
    if (doing !== undefined) return doing
    if (progress !== undefined) return 'Downloading'
    if (main && old) return old.state === 'running' ? 'Handing over' : 'Awaiting handover'
    if (shown) return wordOf(shown)
    // A service without an image is about to be downloaded (spec §5.1).
    if (state.imageId(image) === undefined) return 'Downloading'
    return applier.lanes.get(appId)?.busy ? 'Installing' : 'Downloaded'
  }
}

/** Of a service that the target does not name. */
function leftView(
  { applier }: Seen,
  serviceName: string,
  boxes: readonly KnownContainer[],
): ServiceView {
  const { main, old } = rolesOf(boxes, serviceName)
  const shown = (main ?? old) as KnownContainer
  const release = readContainerName(shown.name)
  return {
    serviceName,
    serviceId: shown.serviceId,
    imageId: release?.imageId ?? 0,
    releaseId: release?.releaseId ?? 0,
    image: shown.imageId,
    wanted: false,
    status: applier.doings.get(shown.id) ?? wordOf(shown),
    downloadProgress: null,
    stoppedByUser: false,
    container: containerView(shown),
  }
}

/** The container of the service, and the one that makes room for it. */
export function rolesOf<Box extends { readonly name: string; readonly createdAt: number }>(
  boxes: readonly Box[],
  serviceName: string,
): { readonly main: Box | undefined; readonly old: Box | undefined } {
  const newest = [...boxes].sort((a, b) => b.createdAt - a.createdAt)
  return {
    main: newest.find(({ name }) => !isOldName(name, serviceName)),
    old: newest.find(({ name }) => isOldName(name, serviceName)),
  }
}

/** Spec §14. */
function wordOf({ state }: KnownContainer): string {
  if (state === 'running') return 'Running'
  if (state === 'created') return 'Installed'
  return state === 'dead' ? 'Dead' : state
}

function containerView(one: KnownContainer): ContainerView {
  return {
    id: one.id,
    name: one.name,
    state: one.state,
    health: one.health,
    exitCode: one.exitCode,
    createdAt: new Date(one.createdAt).toISOString(),
    engineImageId: one.imageId,
    env: one.env,
  }
}
