import type { DeviceAddresses } from '../host/addresses.ts'
import { type KeyHolder, opensApp } from '../keys/scopes.ts'
import type { AppView, ContainerView, ImageView, ServiceView, Supervisor } from '../supervisor.ts'

/*
 * The state of the device as the endpoints show it (spec §4.9, §4.10, §5.1, §5.2, §5.5, §5.6).
 */

/** What no answer shows of an environment (spec §4.10). */
export const PRIVATE_VARIABLES: ReadonlySet<string> = new Set([
  'BALENA_API_KEY',
  'RESIN_API_KEY',
  'BALENA_SUPERVISOR_API_KEY',
  'RESIN_SUPERVISOR_API_KEY',
])

/** Device facts of {@link deviceView} that are no state of an app. */
export interface DeviceFacts {
  readonly port: number
  readonly version: string
  readonly osVersion: string | undefined
  readonly addresses: DeviceAddresses
}

/** `GET /v1/device`; `apps` is ours (spec §24.16). */
export function deviceView(supervisor: Supervisor, facts: DeviceFacts, holder: KeyHolder) {
  const status = supervisor.status()
  const all = supervisor.apps()
  const [first] = all
  const service = first?.services[0]
  const idle = service === undefined || service.status === 'Running'
  return {
    api_port: facts.port,
    ip_address: facts.addresses.ip,
    os_version: facts.osVersion,
    mac_address: facts.addresses.mac,
    supervisor_version: facts.version,
    update_pending: status.updatePending,
    update_failed: status.updateFailed,
    update_downloaded: status.updateDownloaded,
    commit: status.appState === 'applied' ? (first?.appliedCommit ?? first?.commit) : undefined,
    status: idle ? 'Idle' : service.status,
    download_progress: service?.downloadProgress ?? null,
    apps: byAppId(visible(all, holder), (app) => ({
      name: app.name,
      commit: app.appliedCommit ?? app.commit,
      update_status: app.updateStatus,
      services: byName(app.services, ({ status, downloadProgress }) => ({
        status,
        download_progress: downloadProgress,
      })),
    })),
  }
}

/** `GET /v1/apps/:appId` of an app with this one container. */
export function appView(app: AppView, service: ServiceView, container: ContainerView) {
  const env = Object.entries(container.env).filter(([name]) => !PRIVATE_VARIABLES.has(name))
  return {
    appId: app.appId,
    commit: app.appliedCommit ?? app.commit,
    containerId: container.id,
    env: Object.fromEntries(env),
    imageId: container.engineImageId,
    image: service.image,
    releaseId: service.releaseId,
  }
}

/** `GET /v2/applications/state`, by the names of the apps of the target. */
export function applicationsView(supervisor: Supervisor, holder: KeyHolder) {
  const apps = visible(supervisor.apps(), holder).filter(({ wanted }) => wanted)
  return Object.fromEntries(
    apps.map((app) => [
      app.name,
      {
        appId: app.appId,
        appUuid: app.uuid,
        commit: app.commit,
        updateStatus: app.updateStatus,
        services: byName(wantedOf(app), (service) => ({
          status: service.status,
          image: service.image,
          downloadProgress: service.downloadProgress,
          releaseId: service.releaseId,
        })),
      },
    ]),
  )
}

/** `GET /v2/applications/:appId/state`, by the numbers of the images. */
export function applicationView(app: AppView) {
  const services = wantedOf(app).map((service) => [
    String(service.imageId),
    {
      status: service.status,
      releaseId: service.releaseId,
      download_progress: service.downloadProgress,
    },
  ])
  return {
    commit: app.appliedCommit ?? app.commit,
    local: { [app.appId]: { services: Object.fromEntries(services) } },
  }
}

/** `GET /v2/state/status`: the first app at the top, and all of them in `apps` (spec §24.16). */
export function statusView(supervisor: Supervisor, holder: KeyHolder) {
  const { appState, overallDownloadProgress } = supervisor.status()
  const all = supervisor.images()
  const apps = visible(supervisor.apps(), holder)
  const [first] = apps
  return {
    status: 'success',
    appState,
    overallDownloadProgress,
    ...(first ? appStatus(first, all) : { containers: [], images: [] }),
    apps: byAppId(apps, (app) => appStatus(app, all)),
  }
}

/** Ids of the containers by service, for `GET /v2/containerId`. */
export function containerIds(
  supervisor: Supervisor,
  holder: KeyHolder,
): ReadonlyMap<string, string> {
  const ids = new Map<string, string>()
  for (const { services } of visible(supervisor.apps(), holder)) {
    for (const { serviceName, container } of services) {
      // Of two apps with such a service the first one has the name.
      if (container && !ids.has(serviceName)) ids.set(serviceName, container.id)
    }
  }
  return ids
}

function appStatus(app: AppView, images: readonly ImageView[]) {
  const { appId } = app
  return {
    containers: app.services.flatMap((service) => {
      const { container, status, serviceName, imageId, serviceId } = service
      if (!container) return []
      const { id: containerId, createdAt } = container
      return [{ status, serviceName, appId, imageId, serviceId, containerId, createdAt }]
    }),
    images: images
      .filter((image) => image.appId === appId)
      .map(({ name, serviceName, imageId, engineImageId, status, downloadProgress }) => ({
        name,
        appId,
        serviceName,
        imageId,
        dockerImageId: engineImageId,
        status,
        downloadProgress,
      })),
    release: app.appliedCommit ?? app.commit,
  }
}

function visible(apps: readonly AppView[], holder: KeyHolder): AppView[] {
  return apps.filter(({ appId }) => opensApp(holder, appId))
}

function wantedOf({ services }: AppView): ServiceView[] {
  return services.filter(({ wanted }) => wanted)
}

function byAppId<T>(apps: readonly AppView[], view: (app: AppView) => T): Record<string, T> {
  return Object.fromEntries(apps.map((app) => [String(app.appId), view(app)]))
}

function byName<T>(
  services: readonly ServiceView[],
  view: (service: ServiceView) => T,
): Record<string, T> {
  return Object.fromEntries(services.map((service) => [service.serviceName, view(service)]))
}
