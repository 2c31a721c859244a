import type { ContainerDetails, ContainerSummary } from '../../../src/engine/containers.ts'
import type { ImageDetails, ImageSummary } from '../../../src/engine/images.ts'
import type { Network } from '../../../src/engine/networks.ts'
import type { Volume } from '../../../src/engine/volumes.ts'
import { readFields } from '../compose/identity.ts'
import { imageKey } from '../compose/image-key.ts'
import {
  APP_ID,
  APP_UUID,
  FIELDS,
  HASH,
  MADE_FROM,
  NETWORK_OF,
  SERVICE_ID,
  SERVICE_NAME,
  SUPERVISED,
} from '../compose/label-names.ts'
import { isServiceName } from '../locks/names.ts'
import type {
  ContainerState,
  CurrentContainer,
  CurrentNetwork,
  CurrentVolume,
} from '../plan/current.ts'

/** A container of ours: what a plan looks at, and what is shown. */
export interface KnownContainer extends CurrentContainer {
  readonly uuid: string
  readonly serviceId: number
  /** Whole environment; holds secrets. */
  readonly env: Readonly<Record<string, string>>
  readonly tty: boolean
  /** Name of its restart policy. */
  readonly restartPolicy: string
  /** By name: the id of each network that it ran on last, as far as the engine says one. */
  readonly networkIds: Readonly<Record<string, string>>
}

/** What is kept of a container that is not ours: the name and the image it takes. */
export interface ForeignContainer {
  readonly id: string
  readonly names: readonly string[]
  readonly imageId: string
  /** Names of the volumes it mounts. */
  readonly volumes: readonly string[]
}

/** What is kept of an image. */
export interface KnownImage {
  readonly id: string
  /** As `imageKey`. */
  readonly names: readonly string[]
}

const STATES: ReadonlySet<string> = new Set<ContainerState>([
  'created',
  'running',
  'restarting',
  'paused',
  'exited',
  'removing',
  'dead',
])
const HEALTHS: ReadonlySet<string> = new Set(['starting', 'healthy', 'unhealthy'])

/** The app and service whose a container is; undefined for one of a stranger. */
export function ownerOf(
  labels: Readonly<Record<string, string>>,
): { readonly appId: number; readonly serviceName: string } | undefined {
  const appId = idOf(labels[APP_ID])
  const serviceName = labels[SERVICE_NAME]
  if (labels[SUPERVISED] === undefined || appId === undefined) return undefined
  // No supervisor gave it another name, and it is that of a folder and in a key.
  if (serviceName === undefined || !isServiceName(serviceName)) return undefined
  return { appId, serviceName }
}

/** @returns Undefined for a container of a stranger. */
export function knownContainer(details: ContainerDetails): KnownContainer | undefined {
  const { Config, State, HostConfig } = details
  const labels = Config.Labels
  const owner = ownerOf(labels)
  if (owner === undefined) return undefined
  const health = State.Health?.Status ?? ''
  const state = STATES.has(State.Status) ? (State.Status as ContainerState) : 'exited'
  const startedAt = timeOf(State.StartedAt)
  return {
    id: details.Id,
    name: withoutSlash(details.Name),
    ...owner,
    uuid: labels[APP_UUID] ?? '',
    serviceId: idOf(labels[SERVICE_ID]) ?? 0,
    hash: labels[HASH],
    fields: readFields(labels[FIELDS]),
    madeFrom: labels[MADE_FROM],
    networkOf: labels[NETWORK_OF],
    imageId: details.Image,
    state,
    health: HEALTHS.has(health) ? (health as 'starting' | 'healthy' | 'unhealthy') : 'none',
    createdAt: timeOf(details.Created) ?? 0,
    startedAt,
    exitCode: state === 'exited' || state === 'dead' ? State.ExitCode : undefined,
    error: State.Error,
    networks: Object.keys(details.NetworkSettings.Networks),
    volumes: volumesOf(details.Mounts),
    env: environmentOf(Config.Env),
    tty: Config.Tty,
    restartPolicy: HostConfig.RestartPolicy?.Name ?? '',
    networkIds: networkIdsOf(details),
  }
}

export function foreignContainer(
  one: Pick<ContainerSummary, 'Id' | 'Names' | 'ImageID' | 'Mounts'>,
): ForeignContainer {
  return {
    id: one.Id,
    names: one.Names.map(withoutSlash),
    imageId: one.ImageID,
    volumes: volumesOf(one.Mounts),
  }
}

/** @returns Undefined for a network of a stranger. */
export function knownNetwork({ Id, Name, Labels }: Network): CurrentNetwork | undefined {
  const appId = idOf(Labels[APP_ID])
  if (Labels[SUPERVISED] === undefined || appId === undefined) return undefined
  return { id: Id, name: Name, appId, hash: Labels[HASH] }
}

/**
 * Balena's own supervisor writes no app id on volumes, only in front of the name (spec §11, §13.2).
 *
 * @returns Undefined for a volume of a stranger.
 */
export function knownVolume({ Name, Labels }: Volume): CurrentVolume | undefined {
  if (Labels[SUPERVISED] === undefined) return undefined
  const appId = idOf(Labels[APP_ID] ?? /^([0-9]{1,16})_/.exec(Name)?.[1])
  return appId === undefined ? undefined : { name: Name, appId, hash: Labels[HASH] }
}

export function knownImage({
  Id,
  RepoTags,
  RepoDigests,
}: Pick<ImageSummary | ImageDetails, 'Id' | 'RepoTags' | 'RepoDigests'>): KnownImage {
  const names = [...RepoTags, ...RepoDigests].filter((name) => !name.includes('<none>'))
  return { id: Id, names: [...new Set(names.map(imageKey))] }
}

function volumesOf(mounts: ContainerSummary['Mounts']): string[] {
  const named = mounts.filter(({ Type, Name }) => Type === 'volume' && Name !== '')
  return [...new Set(named.map(({ Name }) => Name))]
}

/** Podman 4 gives the name in place of the id, and that says nothing. */
function networkIdsOf({ NetworkSettings }: ContainerDetails): Record<string, string> {
  const all = Object.entries(NetworkSettings.Networks)
  return Object.fromEntries(
    all.flatMap(([name, { NetworkID: id }]) => (/^[0-9a-f]{64}$/.test(id) ? [[name, id]] : [])),
  )
}

function environmentOf(entries: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    entries.map((entry) => {
      const at = entry.indexOf('=')
      return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)]
    }),
  )
}

function idOf(text: string | undefined): number | undefined {
  if (text === undefined || !/^[0-9]{1,16}$/.test(text)) return undefined
  const id = Number(text)
  return Number.isSafeInteger(id) ? id : undefined
}

/** Milliseconds since 1970; undefined for the year 1, with which an engine says "never". */
function timeOf(text: string): number | undefined {
  const ms = Date.parse(text)
  return Number.isNaN(ms) || ms <= 0 ? undefined : ms
}

function withoutSlash(name: string): string {
  return name.startsWith('/') ? name.slice(1) : name
}
