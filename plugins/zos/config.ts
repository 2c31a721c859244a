import { isIPv4, isIPv6 } from 'node:net'
import * as v from 'valibot'
import { parseAddress } from '../../src/config/address.ts'
import {
  AbsolutePath,
  flag,
  HttpUrl,
  Program,
  plainUrl,
  RegistriesConfig,
  seconds,
} from '../../src/config/fields.ts'
import { secret } from '../../src/config/secret.ts'

const choice = <const T extends readonly string[]>(words: T, description: string) =>
  v.optional(v.pipe(v.picklist(words), v.description(description)), 'auto' as T[number])

const u32 = (description: string) =>
  v.pipe(
    v.number(),
    v.integer(),
    v.minValue(0),
    v.maxValue(4_294_967_295),
    v.description(description),
  )

const Address = v.pipe(
  v.string(),
  v.check((text) => parseAddress(text) !== undefined, 'must be host:port'),
)

const Text = v.pipe(v.string(), v.maxLength(255))

const optionalAddress = (check: (text: string) => boolean, what: string) =>
  v.optional(
    v.pipe(
      v.string(),
      v.check((text) => text === '' || check(text), `must be ${what}`),
    ),
    '',
  )

const isCidr =
  (isIp: (text: string) => boolean, most: number) =>
  (text: string): boolean => {
    const [, ip = '', length = ''] = /^([0-9a-fA-F.:]+)\/(\d{1,3})$/.exec(text) ?? []
    return isIp(ip) && Number(length) <= most
  }

const PublicConfig = v.strictObject({
  type: v.optional(v.picklist(['vlan', 'macvlan', '']), 'macvlan'),
  ipv4: optionalAddress(isCidr(isIPv4, 32), 'an IPv4 address with its prefix length'),
  ipv6: optionalAddress(isCidr(isIPv6, 128), 'an IPv6 address with its prefix length'),
  gw4: optionalAddress(isIPv4, 'an IPv4 address'),
  gw6: optionalAddress(isIPv6, 'an IPv6 address'),
  domain: v.optional(v.pipe(Text, v.description('Names of gateways end with it')), ''),
})

const Location = v.strictObject({
  longitude: v.optional(v.pipe(v.number(), v.minValue(-180), v.maxValue(180)), 0),
  latitude: v.optional(v.pipe(v.number(), v.minValue(-90), v.maxValue(90)), 0),
  continent: v.optional(Text, ''),
  country_name: v.optional(Text, ''),
  country_code: v.optional(Text, ''),
  city_name: v.optional(Text, ''),
})

const Drivers = v.strictObject({
  zmount: choice(['auto', 'file', 'off'], 'Disks: files below data_dir'),
  volume: choice(['auto', 'dir', 'off'], 'Shared folders below data_dir'),
  network: choice(
    ['auto', 'engine', 'host', 'off'],
    'engine: networks of the container engine; host: namespaces, bridges and WireGuard',
  ),
  zmachine: choice(
    ['auto', 'container', 'cloud-hypervisor', 'off'],
    'What a machine is: a container, or a virtual machine',
  ),
  ip: choice(['auto', 'off'], 'Public addresses; needs public_bridge'),
  zdb: choice(['auto', 'off'], 'Namespaces of a 0-db; needs [plugins.zos.zdb]'),
  gateway: choice(
    ['auto', 'proxy', 'traefik', 'off'],
    "proxy: the daemon's own; traefik: files for it",
  ),
  zlogs: choice(['auto', 'off'], 'Follows the log of a machine'),
})

const Zdb = v.strictObject({
  address: v.pipe(Address, v.description('Of the 0-db')),
  password: v.optional(secret()),
  advertise: v.optional(
    v.pipe(v.array(Text), v.maxLength(16), v.description('Addresses that clients are told')),
    [],
  ),
})

const Gateway = v.strictObject({
  http: v.optional(v.pipe(Address, v.description("Where the daemon's own proxy takes HTTP"))),
  tls: v.optional(v.pipe(Address, v.description('And TLS, which it passes through unread'))),
  cert: v.optional(
    v.pipe(
      AbsolutePath,
      v.description('PEM chain for gateways that do not pass TLS through, as *.<domain>'),
    ),
  ),
  key: v.optional(secret()),
  traefik_dir: v.optional(v.pipe(AbsolutePath, v.description("Folder of traefik's file provider"))),
  domain: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^([\w-]{1,63}\.)+[\w-]{1,63}$/, 'must be a domain'),
      v.description('Names of gateways end with it; default: that of public_config'),
    ),
  ),
  allow_local: flag(false, 'Let gateways lead to addresses of this node'),
})

const CloudHypervisor = v.strictObject({
  program: v.optional(v.pipe(Program, v.description('And its first arguments')), [
    'cloud-hypervisor',
  ]),
  virtiofsd: v.optional(Program, ['virtiofsd']),
  firmware: v.optional(v.pipe(AbsolutePath, v.description('Boots disk images: hypervisor-fw'))),
  kernel: v.optional(v.pipe(AbsolutePath, v.description('Direct boot, in place of firmware'))),
  initramfs: v.optional(AbsolutePath),
  cmdline: v.optional(v.pipe(v.string(), v.maxLength(2048)), ''),
  image_dir: v.optional(
    v.pipe(
      AbsolutePath,
      v.description('Disk images that file:///name stands for; default: none are offered'),
    ),
  ),
  run_dir: v.optional(v.pipe(AbsolutePath, v.description('Folder of sockets, a short path'))),
})
export type CloudHypervisorConfig = v.InferOutput<typeof CloudHypervisor>

const Relay = v.strictObject({
  urls: v.pipe(
    v.array(plainUrl(/^wss?:\/\//, 'a ws or wss URL')),
    v.minLength(1),
    v.maxLength(8),
    v.description('wss://relay.example'),
  ),
  identity: v.pipe(secret(), v.description('File of the mnemonic, or of a seed of 64 hex digits')),
  key_type: v.optional(v.picklist(['sr25519', 'ed25519']), 'sr25519'),
})

const Fields = v.strictObject({
  registry: v.optional(
    v.pipe(
      AbsolutePath,
      v.description('The registry document; default: registry.json in the state'),
    ),
  ),
  chain_url: v.optional(
    v.pipe(
      v.array(plainUrl(/^(https?|wss?):\/\//, 'an http, https, ws or wss URL')),
      v.minLength(1),
      v.maxLength(8),
      v.description('JSON-RPC of the chain, in place of a document; tried in turn'),
    ),
  ),
  node_id: v.optional(u32('Of this node on the chain')),
  admin_twins: v.optional(
    v.pipe(
      v.array(u32('Twin')),
      v.maxLength(1000),
      v.description('May use zos.debug, beside those of the document'),
    ),
    [],
  ),
  data_dir: v.optional(
    v.pipe(AbsolutePath, v.description('Disks and volumes; default: data in the state folder')),
  ),
  data_type: v.optional(
    v.pipe(v.picklist(['ssd', 'hdd']), v.description('Of its disk, where the kernel cannot tell')),
  ),
  mount_disks: v.optional(
    v.pipe(
      v.picklist(['auto', 'folder']),
      v.description('folder: disks of containers are plain folders, whose size nothing enforces'),
    ),
    'auto',
  ),
  overcommit: flag(false, 'Promise more disk space than there is'),
  require_auth: flag(false, 'Ask for a twin also where anybody may read'),
  trust_twin_header: flag(false, 'Believe X-Zos-Twin over TCP as well'),
  strict_signatures: flag(false, 'Treat an absent optional signature as zos does: as a wrong one'),
  reference_slips: flag(false, 'Take references to workloads of another type, as zos does'),
  kyc_url: v.optional(HttpUrl),
  bus: v.optional(plainUrl(/^rediss?:\/\//, 'a redis URL')),
  bus_password: v.optional(secret()),
  relay: v.optional(Relay),
  engine_socket: v.optional(
    v.pipe(AbsolutePath, v.description('Socket of the container engine')),
    '/var/run/docker.sock',
  ),
  registries: RegistriesConfig,
  drivers: v.optional(Drivers, {}),
  cloud_hypervisor: v.optional(CloudHypervisor),
  zdb: v.optional(Zdb),
  gateway: v.optional(Gateway, {}),
  public_network: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[\w.-]{1,255}$/, 'must be the name of a network'),
      v.description('Network of the engine on which machines have their public addresses'),
    ),
  ),
  uplink_range: v.optional(
    v.pipe(
      v.string(),
      v.check(isCidr(isIPv4, 30), 'must be an IPv4 network in CIDR form'),
      v.description('Where networks of the host get addresses for their way out'),
    ),
  ),
  public_bridge: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[\w.-]{1,15}$/, 'must be the name of an interface'),
      v.description('Bridge that public addresses are on'),
    ),
  ),
  public_config: v.optional(PublicConfig),
  nic_hook: v.optional(
    v.pipe(
      Program,
      v.description('Run with the name of the NIC that zos.admin.set_public_nic chose'),
    ),
  ),
  location: v.optional(Location),
  gpu_classes: v.optional(v.picklist(['all', 'reference']), 'all'),
  cpu_benchmark: flag(false, 'Measure the processors after the start and every six hours'),
  zlogs_allow_local: flag(false, 'Let logs be sent to addresses of this node'),
  sync_interval_s: v.optional(
    seconds(1, 'How often the registry is asked about every contract and name'),
    3600,
  ),
  probe_interval_s: v.optional(
    seconds(1, 'How often drivers that this host lacks something for are tried again'),
    60,
  ),
})

export const Config = v.pipe(
  Fields,
  v.check(
    ({ registry, chain_url }) => registry === undefined || chain_url === undefined,
    'registry and chain_url exclude each other',
  ),
  v.check(
    ({ gateway: { cert, key } }) => (cert === undefined) === (key === undefined),
    'gateway.cert and gateway.key belong together',
  ),
  v.check(
    ({ relay, chain_url, registry }) => relay === undefined || !!chain_url || !!registry,
    'relay needs a registry or chain_url, which know the keys of those who call',
  ),
)
export type Config = v.InferOutput<typeof Config>

/** Whether the configuration makes a grid node of this daemon. */
export function isNode({ registry, chain_url, bus, relay }: Config): boolean {
  return registry !== undefined || chain_url !== undefined || bus !== undefined || !!relay
}
