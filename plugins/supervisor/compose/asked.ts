import type {
  Composition,
  NetworkAttachment,
  NetworkMode,
  VolumeMount,
} from '../target/composition-model.ts'
import { balenaLabels } from '../target/labels.ts'
import type { TargetApp, TargetService } from '../target/model.ts'
import type { ComposeContext } from './context.ts'
import { serviceEnvironment } from './environment.ts'
import { readFeatures } from './features.ts'
import { APP_ID, APP_UUID, SERVICE_ID, SERVICE_NAME, SUPERVISED } from './label-names.ts'
import { networkName, volumeName } from './names.ts'

/**
 * Everything that is asked of the engine for one service, with the defaults of spec §10 filled in
 * and nothing that the engine or the image adds. What is not in it cannot have an effect on the
 * container, so its hash is the container's identity.
 */
export interface Asked extends Omit<Composition, 'networks' | 'network_mode'> {
  /** Named ones with the engine's names. */
  readonly volumes?: readonly VolumeMount[]
  readonly image: string
  readonly environment: Readonly<Record<string, string>>
  readonly labels: Readonly<Record<string, string>>
  readonly tty: boolean
  readonly restart: NonNullable<Composition['restart']>
  readonly ipc: string
  readonly shm_size: number
  readonly stop_grace_period: number
  /** Undefined where networks are listed. */
  readonly network_mode: NetworkMode | undefined
  /** By the engine's name, the first one first; empty with a network mode. */
  readonly networks: readonly (readonly [name: string, how: NetworkAttachment])[]
  readonly supervisor_network: boolean
  /** Of paths of the host and of the shared volume: `source:container[:ro]` each. */
  readonly binds: readonly string[]
  readonly gpu: boolean
}

export interface Asking {
  readonly asked: Asked
  /** What was asked for and is not given. */
  readonly warnings: readonly string[]
}

const SHM_SIZE = 64 * 1024 * 1024
const STOP_GRACE_PERIOD = 10

/** All labels of a service that mean something, under their names of today. */
export function serviceLabels(service: TargetService): Record<string, string> {
  return { ...balenaLabels(service.composition.labels ?? {}), ...service.labels }
}

export function askFor(service: TargetService, app: TargetApp, context: ComposeContext): Asking {
  const { networks: attached, network_mode: mode, ...composition } = service.composition
  const labels = serviceLabels(service)
  const features = readFeatures(labels, context)
  const { serviceName } = service
  const lock = `${context.lockRoot}/${app.appId}/${serviceName}`
  const hostname =
    composition.hostname ?? (mode?.kind === 'host' ? context.device.hostname : undefined)
  const asked: Asked = {
    tty: true,
    restart: 'always',
    ipc: 'shareable',
    shm_size: SHM_SIZE,
    stop_grace_period: STOP_GRACE_PERIOD,
    ...composition,
    ...(hostname ? { hostname } : {}),
    image: service.image,
    environment: serviceEnvironment(service, app, context, features),
    labels: {
      ...labels,
      [SUPERVISED]: 'true',
      [APP_ID]: String(app.appId),
      [APP_UUID]: app.uuid,
      [SERVICE_ID]: String(service.serviceId),
      [SERVICE_NAME]: serviceName,
    },
    network_mode: mode,
    networks: mode === undefined ? networksOf(app, serviceName, attached) : [],
    supervisor_network: features.api && (mode === undefined || mode.kind === 'bridge'),
    ...(composition.volumes ? { volumes: namedForEngine(app, composition.volumes) } : {}),
    binds: [...features.binds, `${lock}:/tmp/balena`, `${lock}:/tmp/resin`],
    gpu: features.gpu,
  }
  return { asked, warnings: features.warnings }
}

/** Without any it is the app's default network; the service's name is an alias in each. */
function networksOf(
  app: TargetApp,
  serviceName: string,
  attached: Composition['networks'] = {},
): (readonly [string, NetworkAttachment])[] {
  const entries = Object.entries(attached)
  const named: [string, NetworkAttachment][] = entries.length > 0 ? entries : [['default', {}]]
  return named.map(([name, how]) => {
    const aliases = [...new Set([serviceName, ...(how.aliases ?? [])])]
    return [networkName(app.uuid, name), { ...how, aliases }] as const
  })
}

function namedForEngine({ appId }: TargetApp, mounts: readonly VolumeMount[]): VolumeMount[] {
  return mounts.map((mount) =>
    mount.type === 'named' ? { ...mount, source: volumeName(appId, mount.source) } : mount,
  )
}
