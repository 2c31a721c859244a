import { join } from 'node:path'
import { parseAddress } from '../../../src/config/address.ts'
import type { Config } from '../config.ts'
import type { Driver } from '../drivers/driver.ts'
import type { GpuClaims } from '../drivers/gpu-claims.ts'
import type { MachineLogs } from '../drivers/machine-logs.ts'

/** What drivers need around them. */
export interface DriverParts {
  readonly config: Config
  /** Disks and volumes. */
  readonly dataDir: string
  /** The plugin's own folder. */
  readonly stateDir: string
  /** Marks what is this daemon's on an engine that others use too. */
  readonly owner: string
  readonly gpus: GpuClaims
  readonly warn: (text: string) => void
}

/** What machines are on this host, and how their logs are read. */
interface Machines {
  readonly kind: 'container' | 'cloud-hypervisor' | 'off'
  readonly drivers: readonly AnyDriver[]
  readonly logs: MachineLogs | undefined
}

/** A driver of whatever type. */
// biome-ignore lint/suspicious/noExplicitAny: the board gives each driver workloads of its own type
export type AnyDriver = Driver<any>

/**
 * The drivers that the configuration allows, for each type the one that is liked best first. Their
 * code is loaded here, for most daemons have no deployments.
 */
export async function offeredDrivers(parts: DriverParts): Promise<readonly AnyDriver[]> {
  const machines = await machineDrivers(parts)
  const groups = await Promise.all([
    storageDrivers(parts, machines),
    networkDrivers(parts, machines),
    zlogsDriver(parts, machines),
    zdbDriver(parts),
    ipDrivers(parts),
    gatewayDrivers(parts),
  ])
  return [...machines.drivers, ...groups.flat()]
}

async function engineOf({ config }: DriverParts) {
  const { openEngine } = await import('../../../src/engine/engine.ts')
  return openEngine({ socketPath: config.engine_socket })
}

async function machineDrivers(parts: DriverParts): Promise<Machines> {
  const { config, owner, dataDir, gpus, warn } = parts
  const wanted = config.drivers.zmachine
  if (wanted === 'off') return { kind: 'off', drivers: [], logs: undefined }
  const engine = await engineOf(parts)
  const { createContainerMachineDriver } = await import('../drivers/container/machine.ts')
  const { containerLogs } = await import('../drivers/container/container-logs.ts')
  const options = {
    engine,
    owner,
    dataDir,
    gpus,
    warn,
    credentials: (registry: string) => {
      const found = config.registries[registry]
      return found && { username: found.username, password: found.password.read() }
    },
    ...(config.public_network !== undefined && { publicNetwork: config.public_network }),
  }
  return {
    kind: 'container',
    drivers: [
      createContainerMachineDriver('zmachine', options),
      createContainerMachineDriver('zmachine-light', options),
    ],
    logs: containerLogs(engine, owner),
  }
}

async function storageDrivers(
  { config, dataDir, warn }: DriverParts,
  { kind }: Machines,
): Promise<readonly AnyDriver[]> {
  const { createStorageDrivers } = await import('../drivers/storage/index.ts')
  const { zmount, volume } = createStorageDrivers({
    dataDir,
    useFolders: kind !== 'cloud-hypervisor',
    mounting: config.mount_disks,
    overcommit: config.overcommit,
    warn,
  })
  return [
    ...(config.drivers.zmount === 'off' ? [] : [zmount]),
    ...(config.drivers.volume === 'off' ? [] : [volume]),
  ]
}

/** Machines have to be able to reach the networks: both are the engine's, or both the host's. */
async function networkDrivers(
  parts: DriverParts,
  { kind }: Machines,
): Promise<readonly AnyDriver[]> {
  const { config, owner, stateDir, warn } = parts
  const wanted = config.drivers.network
  if (wanted === 'off') return []
  if (wanted === 'host' || (wanted === 'auto' && kind === 'cloud-hypervisor')) {
    const { createNetworkHostDriver } = await import('../drivers/network-host/driver.ts')
    const options = { folder: join(stateDir, 'networks'), uplinkRange: config.uplink_range }
    return [
      createNetworkHostDriver('network', options),
      createNetworkHostDriver('network-light', options),
    ]
  }
  const { createEngineNetworkDriver } = await import('../drivers/network-engine/network.ts')
  const options = { engine: await engineOf(parts), owner, warn }
  return [
    createEngineNetworkDriver('network', options),
    createEngineNetworkDriver('network-light', options),
  ]
}

async function zlogsDriver(
  { config }: DriverParts,
  { logs }: Machines,
): Promise<readonly AnyDriver[]> {
  if (config.drivers.zlogs === 'off' || !logs) return []
  const { createZlogsDriver } = await import('../drivers/zlogs/driver.ts')
  return [createZlogsDriver({ logs })]
}

async function gatewayDrivers({ config }: DriverParts): Promise<readonly AnyDriver[]> {
  const { gateway, public_config } = config
  const backEnd = await gatewayBackEnd(config)
  if (!backEnd) return []
  const { createGatewayNameDriver } = await import('../drivers/gateway/name-proxy.ts')
  const { createGatewayFqdnDriver } = await import('../drivers/gateway/fqdn-proxy.ts')
  const { guard, backEnd: publisher } = backEnd
  const options = {
    backEnd: publisher,
    hosts: new Map<string, string>(),
    guard,
    domain: () => gateway.domain ?? public_config?.domain,
  }
  return [createGatewayNameDriver(options), createGatewayFqdnDriver(options)]
}

async function gatewayBackEnd({ drivers, gateway, public_config }: Config) {
  if (drivers.gateway === 'off') return undefined
  const { createGuard } = await import('../drivers/gateway/guard.ts')
  const { ipv4 = '', ipv6 = '' } = public_config ?? {}
  const publicOnes = [ipv4, ipv6].filter((address) => address !== '')
  const guard = createGuard({
    publicAddresses: () => publicOnes,
    allowLocal: gateway.allow_local,
  })
  if (gateway.traefik_dir !== undefined && drivers.gateway !== 'proxy') {
    const { createTraefikFiles } = await import('../drivers/gateway/traefik.ts')
    return { guard, backEnd: createTraefikFiles({ folder: gateway.traefik_dir }) }
  }
  const listens = (text: string | undefined) => {
    const address = text === undefined ? undefined : parseAddress(text)
    return address ? [{ host: address.host, port: address.port }] : []
  }
  const [http, tls] = [listens(gateway.http), listens(gateway.tls)]
  if (http.length + tls.length === 0) return undefined
  const { createProxy } = await import('../drivers/gateway/proxy.ts')
  return { guard, backEnd: createProxy({ http, tls, guard }) }
}

async function zdbDriver(_parts: DriverParts): Promise<readonly AnyDriver[]> {
  return []
}

async function ipDrivers(_parts: DriverParts): Promise<readonly AnyDriver[]> {
  return []
}
