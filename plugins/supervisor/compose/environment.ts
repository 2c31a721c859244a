import type { TargetApp, TargetService } from '../target/model.ts'
import type { ComposeContext } from './context.ts'
import { type Features, inBoth } from './features.ts'

/** These differ from device to device without being a change (spec §12). */
export const NOT_COMPARED: ReadonlySet<string> = new Set([
  'BALENA_DEVICE_NAME_AT_INIT',
  'RESIN_DEVICE_NAME_AT_INIT',
])

const HANDOVER_COMPLETE = '/tmp/balena/handover-complete'

/**
 * The variables of a container without those of its image (spec §10, §12): what the service gives
 * at the top counts before its composition, and that before the supervisor's own.
 */
export function serviceEnvironment(
  service: TargetService,
  app: TargetApp,
  context: ComposeContext,
  features: Features,
): Record<string, string> {
  return {
    ...deviceVariables(service, app, context),
    ...features.environment,
    ...(features.api ? apiVariables(service, app, context) : {}),
    ...service.composition.environment,
    ...service.environment,
  }
}

function deviceVariables(
  { serviceName }: TargetService,
  app: TargetApp,
  { device }: ComposeContext,
): Record<string, string> {
  return {
    BALENA: '1',
    RESIN: '1',
    USER: 'root',
    RESIN_SERVICE_KILL_ME_PATH: HANDOVER_COMPLETE,
    BALENA_SERVICE_HANDOVER_COMPLETE_PATH: HANDOVER_COMPLETE,
    ...inBoth({
      APP_ID: String(app.appId),
      APP_UUID: app.uuid,
      APP_NAME: app.name,
      SERVICE_NAME: serviceName,
      DEVICE_UUID: device.uuid,
      DEVICE_TYPE: device.type,
      DEVICE_ARCH: device.arch,
      HOST_OS_VERSION: device.osVersion,
      APP_LOCK_PATH: '/tmp/balena/updates.lock',
      DEVICE_NAME_AT_INIT: device.name,
    }),
  }
}

function apiVariables(
  { serviceName, composition }: TargetService,
  { appId }: TargetApp,
  { api, gateway }: ComposeContext,
): Record<string, string> {
  const host = composition.network_mode?.kind === 'host' ? '127.0.0.1' : gateway
  return inBoth({
    SUPERVISOR_API_KEY: api.keyOf(appId, serviceName),
    SUPERVISOR_PORT: String(api.port),
    SUPERVISOR_HOST: host,
    SUPERVISOR_ADDRESS: `http://${host.includes(':') ? `[${host}]` : host}:${api.port}`,
  })
}
