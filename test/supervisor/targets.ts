import { TEST_IMAGE } from '../helpers/engine.ts'

/** The app that most tests have. */
export const APP = 101

export interface ServiceInput {
  readonly image?: string
  readonly environment?: Readonly<Record<string, string>>
  readonly labels?: Readonly<Record<string, string>>
  readonly [field: string]: unknown
}

export interface Release {
  /** `c1`, `c2`, …; container names end with it. */
  readonly number?: number
  readonly volumes?: object
  readonly networks?: object
  readonly config?: Readonly<Record<string, string>>
}

/** A v2 target with one app (spec §9.2): its services by name, numbered in their order. */
export function target(
  services: Readonly<Record<string, ServiceInput>>,
  { number = 1, volumes = {}, networks = {}, config = {} }: Release = {},
  appId = APP,
) {
  const entries = Object.entries(services).map(([serviceName, service], index) => {
    const { image = TEST_IMAGE, environment = {}, labels = {}, ...rest } = service
    const numbers = { serviceId: index + 1, imageId: index + 1001 }
    const fields = { serviceName, ...numbers, image, environment, labels, running: true }
    return [String(index + 1), { ...fields, stop_grace_period: '1s', ...rest }]
  })
  const app = {
    name: `app${appId}`,
    commit: `c${number}`,
    releaseId: number,
    services: Object.fromEntries(entries),
    volumes,
    networks,
  }
  return { local: { name: 'box', config, apps: { [String(appId)]: app } } }
}

/** Both in one target. */
export function together(...targets: readonly ReturnType<typeof target>[]) {
  const [first] = targets
  if (first === undefined) return { local: { name: 'box', config: {}, apps: {} } }
  const apps = Object.assign({}, ...targets.map(({ local }) => local.apps))
  return { local: { ...first.local, apps } }
}

/** The name that a container of {@link target} gets (spec §13.1); `index` is that of its service. */
export const nameOf = (service: string, number: number, index = 0) =>
  `${service}_${1001 + index}_${number}_c${number}`

/**
 * A service that at its first start calls the API to restart its app, until it is restarted. Every
 * start writes the container's hostname to the volume `data`.
 */
export function asker(): ServiceInput {
  const ask =
    'wget -q -O- --header "Content-Type: application/json" ' +
    `--post-data='{"appId":${APP}}' ` +
    '"$BALENA_SUPERVISOR_ADDRESS/v1/restart?apikey=$BALENA_SUPERVISOR_API_KEY"'
  const script =
    'echo $HOSTNAME >> /data/starts; trap "exit 0" TERM; ' +
    `if [ $(wc -l < /data/starts) = 1 ]; then until ${ask}; do sleep 0.1; done; fi; ` +
    'sleep 1000 & wait'
  return {
    command: ['sh', '-c', script],
    labels: { 'io.balena.features.supervisor-api': '1' },
    volumes: ['data:/data'],
  }
}
