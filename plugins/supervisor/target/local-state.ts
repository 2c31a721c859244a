import type { Target, TargetApp, TargetService } from './model.ts'
import { effectiveConfig } from './settings.ts'

/** Where a target came from; `local` is what was posted on the device. */
export type TargetSource = string

/** How much of a target may be shown. */
export interface LocalStateOptions {
  /** Of the device when the target does not say. */
  readonly deviceName: string
  readonly sourceOf: (app: TargetApp) => TargetSource
  /** Apps that the caller may see (spec §24.1). */
  readonly visible: (app: TargetApp) => boolean
}

/**
 * What `GET /v2/local/target-state` shows (spec §6): the apps as they are kept, not as they were
 * posted, and the complete effective configuration. Keys of services are not part of a target.
 */
export function localState(target: Target, options: LocalStateOptions) {
  const apps = target.apps
    .filter((app) => options.visible(app))
    .map((app) => [String(app.appId), appState(app, options.sourceOf(app))])
  return {
    local: {
      name: target.deviceName ?? options.deviceName,
      config: effectiveConfig(target.config),
      apps: Object.fromEntries(apps),
    },
  }
}

function appState(app: TargetApp, source: TargetSource) {
  const owner = { appId: app.appId, appUuid: app.uuid }
  const named = ([name, config]: [string, object]) => ({ name, ...owner, config })
  return {
    ...owner,
    appName: app.name,
    commit: app.commit,
    source,
    isHost: app.isHost,
    isRejected: app.rejected !== undefined,
    services: app.services.map((service) => serviceState(app, service)),
    volumes: Object.entries(app.volumes).map(named),
    networks: Object.entries(app.networks).map(named),
  }
}

function serviceState(app: TargetApp, service: TargetService) {
  const { composition, image, running, environment, labels } = service
  return {
    appId: app.appId,
    appUuid: app.uuid,
    serviceName: service.serviceName,
    serviceId: service.serviceId,
    imageId: service.imageId,
    imageName: image,
    releaseId: app.releaseId,
    commit: app.commit,
    dependsOn: service.dependsOn.map(({ serviceName }) => serviceName),
    config: { ...composition, image, running, environment, labels },
  }
}
