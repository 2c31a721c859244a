import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseAddress } from '../../../src/config/address.ts'
import type { CloudHypervisorConfig, Config } from '../config.ts'
import type { Driver } from '../drivers/driver.ts'
import type { GatewayOptions } from '../drivers/gateway/index.ts'
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

/** Of two kinds of machines one is on a host, for their disks and networks are not the same. */
async function machineDrivers(parts: DriverParts): Promise<Machines> {
  switch (parts.config.drivers.zmachine) {
    case 'off':
      return { kind: 'off', drivers: [], logs: undefined }
    case 'cloud-hypervisor':
      return await virtualMachines(parts)
    case 'container':
      return await containers(parts)
    case 'auto':
      return parts.config.cloud_hypervisor ? await virtualMachines(parts) : await containers(parts)
  }
}

async function containers(parts: DriverParts): Promise<Machines> {
  const { config, owner, dataDir, gpus, warn } = parts
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

async function virtualMachines(parts: DriverParts): Promise<Machines> {
  const { config, dataDir, stateDir, gpus, warn } = parts
  const asked: Partial<CloudHypervisorConfig> = config.cloud_hypervisor ?? {}
  const { createCloudHypervisorDriver } = await import('../drivers/cloud-hypervisor/driver.ts')
  const { hypervisorLogs } = await import('../drivers/cloud-hypervisor/machine-logs.ts')
  const folders = {
    folder: join(stateDir, 'machines'),
    runFolder: asked.run_dir ?? join(stateDir, 'run'),
  }
  const options = {
    ...folders,
    dataDir,
    gpus,
    warn,
    payload: payloadOf(asked),
    hypervisor: asked.program,
    virtiofsd: asked.virtiofsd,
    imageDir: asked.image_dir,
    publicBridge: config.public_bridge,
  }
  return {
    kind: 'cloud-hypervisor',
    drivers: [
      createCloudHypervisorDriver('zmachine', options),
      createCloudHypervisorDriver('zmachine-light', options),
    ],
    logs: hypervisorLogs(folders),
  }
}

function payloadOf({ firmware, kernel, initramfs, cmdline }: Partial<CloudHypervisorConfig>) {
  if (kernel !== undefined) {
    return { kernel, cmdline: cmdline ?? '', ...(initramfs !== undefined && { initramfs }) }
  }
  return firmware === undefined ? undefined : { firmware }
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
    const folder = join(stateDir, 'networks')
    const options = { folder, uplinkRange: config.uplink_range, warn }
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
  return [createZlogsDriver({ logs, allowLocal: config.zlogs_allow_local })]
}

async function gatewayDrivers({ config, warn }: DriverParts): Promise<readonly AnyDriver[]> {
  const { gateway, public_config } = config
  const backEnd = gatewayBackEnd(config)
  if (!backEnd) return []
  const { ipv4 = '', ipv6 = '' } = public_config ?? {}
  const publicOnes = [ipv4, ipv6].filter((address) => address !== '')
  const { createGatewayDrivers } = await import('../drivers/gateway/index.ts')
  const { name, fqdn } = createGatewayDrivers({
    backEnd,
    domain: () => gateway.domain ?? public_config?.domain,
    publicAddresses: () => publicOnes,
    allowLocal: gateway.allow_local,
    checkMs: config.sync_interval_s * 1000,
    warn,
  })
  return [name, fqdn]
}

function gatewayBackEnd({ drivers, gateway }: Config): GatewayOptions['backEnd'] | undefined {
  if (drivers.gateway === 'off') return undefined
  if (gateway.traefik_dir !== undefined && drivers.gateway !== 'proxy') {
    return { traefik: { folder: gateway.traefik_dir } }
  }
  const listens = (text: string | undefined) => {
    const address = text === undefined ? undefined : parseAddress(text)
    return address ? [{ host: address.host, port: address.port }] : []
  }
  const [http, tls] = [listens(gateway.http), listens(gateway.tls)]
  if (http.length + tls.length === 0) return undefined
  const { cert, key } = gateway
  if (cert === undefined || key === undefined) return { proxy: { http, tls } }
  const certificate = () => ({ cert: readFileSync(cert, 'utf8'), key: key.read() })
  return { proxy: { http, tls, certificate } }
}

async function zdbDriver({ config }: DriverParts): Promise<readonly AnyDriver[]> {
  const { zdb, drivers, overcommit } = config
  const address = zdb && parseAddress(zdb.address)
  if (!address || drivers.zdb === 'off') return []
  const { createZdbDriver } = await import('../drivers/zdb/zdb.ts')
  const { advertise, password } = zdb
  const driver = createZdbDriver({
    address: { host: address.host, port: address.port },
    overcommit,
    ...(password && { admin: async () => password.read() }),
    ...(advertise.length > 0 && { ips: () => advertise }),
  })
  return [driver]
}

async function ipDrivers({ config }: DriverParts): Promise<readonly AnyDriver[]> {
  const { public_bridge, public_network, public_config, drivers } = config
  if (drivers.ip === 'off' || (public_bridge === undefined && public_network === undefined)) {
    return []
  }
  const { createIpDrivers } = await import('../drivers/ip/ip.ts')
  const { ip, ipv4 } = createIpDrivers({
    bridge: public_bridge,
    allocateOnly: public_bridge === undefined,
    ipv6Network: () => public_config?.ipv6,
  })
  return [ip, ipv4]
}
