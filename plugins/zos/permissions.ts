import type { Permissions } from '../../src/plugin.ts'
import { BASH } from '../../src/process/lasting-argv.ts'
import { type Config, isNode } from './config.ts'
import {
  IP_PROGRAMS,
  NETWORK_PROGRAMS,
  NODE_PROGRAMS,
  STORAGE_PROGRAMS,
} from './drivers/programs.ts'

/**
 * What the plugin touches with a configuration. Until the configuration makes a grid node of this
 * daemon, that is nothing but its own state.
 */
export function permissions(config: Config): Permissions {
  if (!isNode(config)) return {}
  const { drivers, gateway, zdb, cloud_hypervisor: hypervisor } = config
  const secrets = [
    config.bus_password,
    config.relay?.identity,
    zdb?.password,
    gateway.key,
    ...Object.values(config.registries).map(({ password }) => password),
  ]
  const own = [config.registry, config.data_dir, gateway.traefik_dir, gateway.cert]
  const paths = own.flatMap((path) => path ?? [])
  const urls = [...(config.chain_url ?? []), config.kyc_url, config.bus]
  const addresses = [zdb?.address, gateway.http, gateway.tls]
  const machines = drivers.zmachine === 'cloud-hypervisor' || hypervisor !== undefined
  const lasting = drivers.network === 'host' || machines
  return {
    read: [
      config.engine_socket,
      ...paths,
      ...secrets.flatMap((secret) => secret?.file ?? []),
      '/proc',
      '/sys',
      ...(lasting ? [BASH] : []),
    ],
    write: [config.engine_socket, ...paths],
    net: [
      `unix:${config.engine_socket}`,
      ...[...urls, ...(config.relay?.urls ?? [])].flatMap((url) => (url ? hostOf(url) : [])),
      ...addresses.flatMap((address) => address ?? []),
    ],
    run: [
      ...NODE_PROGRAMS,
      '/bin/kill',
      ...STORAGE_PROGRAMS,
      ...(config.public_bridge === undefined ? [] : IP_PROGRAMS),
      ...(lasting ? [...NETWORK_PROGRAMS, BASH] : []),
      ...(machines ? [first(hypervisor?.program), first(hypervisor?.virtiofsd)] : []),
      ...(config.nic_hook?.slice(0, 1) ?? []),
    ],
    // The last one is read by Deno itself whenever it starts a process.
    env: ['PATH', 'NODE_V8_COVERAGE'],
    sys: ['cpus', 'networkInterfaces', 'statfs', 'systemMemoryInfo'],
  }
}

function first(argv: readonly string[] = []): string {
  return argv[0] ?? ''
}

const PORTS: Readonly<Record<string, string>> = {
  'http:': '80',
  'ws:': '80',
  'https:': '443',
  'wss:': '443',
  'redis:': '6379',
  'rediss:': '6379',
}

/** `host:port`, the port also where the URL leaves it out. */
function hostOf(url: string): string {
  const { hostname, port, protocol } = new URL(url)
  return `${hostname}:${port || PORTS[protocol]}`
}
