import * as v from 'valibot'
import {
  AbsolutePath,
  flag,
  HttpUrl,
  Program,
  RegistriesConfig,
  seconds,
} from '../../src/config/fields.ts'
import { secret } from '../../src/config/secret.ts'
import { SUPERVISOR_GATEWAY, SUPERVISOR_SUBNET } from './compose/supervisor-network.ts'
import { CapabilitiesConfig } from './keys/scopes.ts'

const MAX_PEERS = 256

const command = (fallback: readonly string[], description: string) =>
  v.optional(v.pipe(Program, v.description(description)), [...fallback])

const DeviceConfig = v.strictObject({
  uuid: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[0-9a-f]{2,255}$/, 'must be lower-case hex digits'),
      v.description('UUID of the device; default: made at the first start and kept'),
    ),
  ),
  id: v.optional(
    v.pipe(
      v.number(),
      v.safeInteger(),
      v.minValue(0),
      v.description('deviceId of the remote form'),
    ),
  ),
  name: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[^\n]{1,255}$/, 'must be one line of at most 255 characters'),
      v.description('Name until a target has another one; default: the hostname'),
    ),
  ),
  type: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[\w.-]{1,255}$/),
      v.description('Device type; default: generic-<arch>'),
    ),
  ),
})

const HostConfig = v.strictObject({
  root: v.optional(v.pipe(AbsolutePath, v.description('Folder that stands for /')), '/'),
  led_file: v.optional(
    v.pipe(AbsolutePath, v.description('The light that blinks, below root')),
    '/sys/class/leds/led0/brightness',
  ),
  proxy_dir: v.optional(
    v.pipe(AbsolutePath, v.description('redsocks.conf and no_proxy, below root')),
    '/mnt/boot/system-proxy',
  ),
  hostname_file: v.optional(
    v.pipe(AbsolutePath, v.description('hostname(5), below root')),
    '/etc/hostname',
  ),
  breadcrumb_dir: v.optional(
    v.pipe(
      AbsolutePath,
      v.description('Where an unfinished update of the system shows, below root'),
    ),
    '/mnt/state',
  ),
  vpn_status_dir: v.optional(
    v.pipe(AbsolutePath, v.description('Where the VPN says that it is connected, below root')),
    '/var/run/openvpn/vpn_status',
  ),
  vpn_unit: v.optional(v.pipe(v.string(), v.nonEmpty(), v.maxLength(255)), 'openvpn'),
  reboot: command(['systemctl', 'reboot'], 'Program and arguments that reboot'),
  shutdown: command(['systemctl', 'poweroff'], 'Program and arguments that turn it off'),
  systemctl: command(['systemctl'], 'Asks for units and restarts those of the proxy'),
  journalctl: command(['journalctl'], 'Reads the journal'),
  dry_run: flag(false, 'Changes nothing of the machine: no reboot, no proxy, no hostname'),
  strict: flag(false, 'Refuse a proxy that is not as documented'),
})

const PeerConfig = v.strictObject({
  url: v.pipe(HttpUrl, v.description('Where its API is: "http://10.0.0.2:48484"')),
  key: secret(),
  device_id: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
  app_ids: v.optional(
    v.pipe(v.array(v.pipe(v.number(), v.safeInteger(), v.minValue(0))), v.maxLength(256)),
    [],
  ),
})

const Fields = v.strictObject({
  engine_socket: v.optional(
    v.pipe(AbsolutePath, v.description('Socket of the container engine')),
    '/var/run/docker.sock',
  ),
  host: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[0-9A-Za-z.:-]{1,255}$/, 'must be an address or a name'),
      v.description('Where the API listens when the file lists no [[listen]]'),
    ),
    '127.0.0.1',
  ),
  port: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(1),
      v.maxValue(65_535),
      v.description('And its port, which containers are told as well'),
    ),
    48_484,
  ),
  network: v.optional(
    v.strictObject({
      subnet: v.optional(
        v.pipe(
          v.string(),
          v.regex(/^[0-9.]{7,15}\/(?:1[0-9]|2[0-9]|30)$/, 'must be an IPv4 subnet'),
          v.description('Of the network on which containers reach the API'),
        ),
        SUPERVISOR_SUBNET,
      ),
      gateway: v.optional(
        v.pipe(
          v.string(),
          v.check(isIPv4, 'must be an IPv4 address'),
          v.description('The address they reach it at; within the subnet'),
        ),
        SUPERVISOR_GATEWAY,
      ),
      listen: flag(true, 'Listen there when the file lists no [[listen]]'),
    }),
    {},
  ),
  device: v.optional(DeviceConfig, {}),
  local_mode: v.optional(
    v.pipe(
      v.boolean(),
      v.description('Take targets that are posted; default: when there is no other source'),
    ),
  ),
  authentication: v.optional(
    v.pipe(
      v.picklist(['always', 'unless-local']),
      v.description('unless-local: in local mode everybody may do everything'),
    ),
    'always',
  ),
  master: v.optional(secret()),
  capabilities: v.optional(CapabilitiesConfig, {}),
  lock_dir: v.optional(
    v.pipe(AbsolutePath, v.description('Folder of the update locks')),
    '/tmp/balena-supervisor/services',
  ),
  target_file: v.optional(v.pipe(AbsolutePath, v.description('A target in v3 or v2 form'))),
  target_url: v.optional(
    v.strictObject({
      url: v.pipe(HttpUrl, v.description('Answers with a target in v3 form')),
      token: v.optional(secret()),
      interval_s: v.optional(seconds(1, 'Default 900, where the target says no other')),
    }),
  ),
  report: v.optional(
    v.strictObject({
      url: v.pipe(HttpUrl, v.description('Gets the state by PATCH')),
      token: v.optional(secret()),
      interval_s: v.optional(seconds(1, 'Least time between two reports'), 10),
    }),
  ),
  registries: RegistriesConfig,
  require_digest: flag(false, 'Refuse images that are not named by digest'),
  measure_target: flag(false, 'Extend RTMR3 or a PCR with a target before it is applied'),
  measure_pcr: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(16),
      v.maxValue(31),
      v.description('The PCR of measure_target on Nitro'),
    ),
    16,
  ),
  strict: flag(false, 'Refuse a target of which something would be left out'),
  allow_engine_socket: flag(false, "Give a service the engine's socket when its label asks"),
  replace_volumes: flag(
    false,
    'Make a volume whose driver or options changed anew, without its data',
  ),
  rollback: v.optional(
    v.strictObject({
      stable_s: v.optional(
        seconds(1, 'A new container without health check is good after this'),
        10,
      ),
      timeout_s: v.optional(seconds(1, 'It failed when it is not good after this'), 120),
    }),
  ),
  remote_timeout_s: v.optional(seconds(1, "Longest wait for a peer's answer to begin"), 900),
  peers: v.optional(
    v.pipe(
      v.record(
        v.pipe(v.string(), v.regex(/^[0-9a-f]{2,255}$/, 'must be the UUID of a device')),
        PeerConfig,
      ),
      v.check((peers) => Object.keys(peers).length <= MAX_PEERS, `at most ${MAX_PEERS} peers`),
      v.description('Devices that POST /supervisor/... is forwarded to, by UUID'),
    ),
    {},
  ),
  reported_version: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[0-9]+\.[0-9]+\.[0-9]+(?:[-+][\w.+-]{1,64})?$/, 'must be a version such as 19.0.5'),
      v.description("Version of balena's supervisor whose API this is"),
    ),
    '19.0.5',
  ),
  machine: v.optional(HostConfig, {}),
})

/** The table `[plugins.supervisor]`. */
export const Config = v.pipe(
  Fields,
  v.forward(
    v.check(
      ({ target_file, target_url }) => target_file === undefined || target_url === undefined,
      'the target comes from target_file already',
    ),
    ['target_url'],
  ),
  v.forward(
    v.check(({ network }) => inSubnet(network.gateway, network.subnet), 'gateway is not in subnet'),
    ['network'],
  ),
  v.forward(
    v.check(
      ({ rollback }) => !rollback || rollback.stable_s <= rollback.timeout_s,
      'stable_s is longer',
    ),
    ['rollback'],
  ),
)

export type Config = v.InferOutput<typeof Config>

/** A device that requests are forwarded to. */
export type PeerConfig = v.InferOutput<typeof PeerConfig>

/** Whether an IPv4 address is in a subnet, and neither its first nor its last address. */
function inSubnet(address: string, subnet: string): boolean {
  const [base = '', bits = ''] = subnet.split('/')
  if (!isIPv4(address) || !isIPv4(base)) return false
  const size = 2 ** (32 - Number(bits))
  const first = Math.floor(numberOf(base) / size) * size
  const at = numberOf(address) - first
  return at > 0 && at < size - 1
}

function isIPv4(text: string): boolean {
  const parts = text.split('.')
  return (
    parts.length === 4 && parts.every((part) => /^[0-9]{1,3}$/.test(part) && Number(part) < 256)
  )
}

function numberOf(address: string): number {
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
}
