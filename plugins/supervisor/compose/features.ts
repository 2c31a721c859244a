import { isTruthy } from '../target/labels.ts'
import type { ComposeContext } from './context.ts'

/** What the feature labels of a service add to its container (spec §11). */
export interface Features {
  /** `host:container[:ro]` each. */
  readonly binds: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  /** The service may talk to the API, and joins the supervisor's network for it. */
  readonly api: boolean
  readonly gpu: boolean
  /** What was asked for and is not given. */
  readonly warnings: readonly string[]
}

const PREFIX = 'io.balena.features.'

/** Where the engine's socket is in a container. */
const SOCKET = '/host/run/balena-engine.sock'

/** Paths of the host by feature; read-only where it says so. */
const BINDS: Readonly<Record<string, readonly string[]>> = {
  dbus: ['/run/dbus:/host/run/dbus'],
  'journal-logs': [
    '/var/log/journal:/var/log/journal:ro',
    '/run/log/journal:/run/log/journal:ro',
    '/etc/machine-id:/etc/machine-id:ro',
  ],
  'kernel-modules': ['/lib/modules:/lib/modules'],
  firmware: ['/lib/firmware:/lib/firmware'],
  sysfs: ['/sys:/sys'],
  procfs: ['/proc:/proc'],
}

/** The volume that all apps share (spec §13.5). The engine makes it. */
const EXTRA_FIRMWARE = 'extra-firmware:/extra-firmware'

/** @param labels Of the service, under their names of today. */
export function readFeatures(
  labels: Readonly<Record<string, string>>,
  context: ComposeContext,
): Features {
  const has = (feature: string) => isTruthy(labels[`${PREFIX}${feature}`])
  const binds: string[] = []
  const warnings: string[] = []
  let environment: Record<string, string> = {}
  for (const [feature, wanted] of Object.entries(BINDS)) {
    for (const bind of has(feature) ? wanted : []) {
      const [path = ''] = bind.split(':')
      if (context.hostHas(path)) binds.push(bind)
      else warnings.push(`${PREFIX}${feature}: this machine has no ${path}`)
    }
  }
  if (has('extra-firmware')) binds.push(EXTRA_FIRMWARE)
  if (has('balena-socket')) {
    if (context.allowEngineSocket) {
      const { engineSocket } = context
      const places = new Set([SOCKET, engineSocket, '/var/run/balena.sock'])
      for (const place of places) binds.push(`${engineSocket}:${place}`)
      environment = { ...environment, DOCKER_HOST: `unix://${SOCKET}` }
    } else {
      warnings.push(`${PREFIX}balena-socket: the engine's socket is given to no service here`)
    }
  }
  if (has('balena-api')) {
    if (context.balenaApi) {
      const { key, url } = context.balenaApi
      environment = { ...environment, ...inBoth({ API_KEY: key, API_URL: url }) }
    } else warnings.push(`${PREFIX}balena-api: this device has no key for such an API`)
  }
  if (has('host-os.board-rev')) {
    const { boardRev = '', osBuild = '' } = context.device
    environment = {
      ...environment,
      BALENA_HOST_OS_BOARD_REV: boardRev,
      BALENA_HOST_OS_BUILD: osBuild,
    }
  }
  return { binds, environment, api: has('supervisor-api'), gpu: has('gpu'), warnings }
}

/** The variables in both namespaces (spec §12). */
export function inBoth(variables: Readonly<Record<string, string>>): Record<string, string> {
  const both = Object.entries(variables).flatMap(([name, value]) => [
    [`BALENA_${name}`, value],
    [`RESIN_${name}`, value],
  ])
  return Object.fromEntries(both)
}
