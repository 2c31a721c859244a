import { list, mapOf, mapped, optional, struct } from '../../json/compound.ts'
import type { Form } from '../../json/form.ts'
import { bool, hex, ip, string, u8, u64 } from '../../json/scalars.ts'
import type {
  Capacity,
  MachineInterface,
  MachineNetwork,
  MachineNetworkLight,
  Zmachine,
  ZmachineLight,
} from '../../model.ts'
import { compareUtf8 } from '../utf8-order.ts'
import { must, type Neighbours, unset, type WorkloadKind } from './kind.ts'

const MIB = 1n << 20n
const GIB = 1n << 30n
const SEED_BYTES = 6
const RESERVED_NETWORKS = ['ygg', 'pub', 'mycelium']

const name = string('gridtypes.Name')

const attached = {
  mycelium: [
    'mycelium',
    optional(
      struct<NonNullable<MachineNetworkLight['mycelium']>>('zos.MyceliumIP', {
        network: ['Network', name],
        hexSeed: ['hex_seed', hex('zos.Bytes')],
      }),
    ),
  ],
  interfaces: [
    'interfaces',
    list(
      struct<MachineInterface>('zos.MachineInterface', {
        network: ['network', name],
        ip: ['ip', ip],
      }),
    ),
  ],
} as const

const fullNetwork = struct<MachineNetwork>('zos.MachineNetwork', {
  publicIp: ['public_ip', name],
  planetary: ['planetary', bool],
  ...attached,
})
const lightNetwork = struct<MachineNetworkLight>('zos.MachineNetworkLight', attached)

export const zmachine: WorkloadKind<'zmachine'> = {
  form: machine<Zmachine>('zos.ZMachine', fullNetwork),
  check(data, neighbours) {
    checkSizes(data)
    if (data.network.publicIp !== '') checkPublicIp(data.network.publicIp, neighbours)
    checkNetwork(data)
  },
  challenge: (data) => challenge(data, `${data.network.publicIp}${data.network.planetary}`),
  capacity,
  updatable: false,
}

export const zmachineLight: WorkloadKind<'zmachine-light'> = {
  form: machine<ZmachineLight>('zos.ZMachineLight', lightNetwork),
  check(data) {
    checkSizes(data)
    checkNetwork(data)
  },
  challenge: (data) => challenge(data, ''),
  capacity,
  updatable: false,
}

/** Bytes of a machine's root disk: what it asks for, at least the minimum. */
export function rootSizeOf(machine: ZmachineLight): bigint {
  const least = leastRootSize(machine)
  if (machine.size > least) return machine.size
  return least
}

/** Of small machines less: one without a whole core for every 8 GiB, or so. */
function leastRootSize({ cpu, memory }: ZmachineLight): bigint {
  // The reference multiplies in 64 bits, and so does the chain of prices behind it.
  const units = BigInt.asUintN(64, BigInt(cpu) * memory) / (8n * GIB)
  return units === 0n ? 500n * MIB : 2n * GIB
}

/** The wire has processors and memory in an object of their own. */
function machine<T extends ZmachineLight>(goType: string, network: Form<T['network']>): Form<T> {
  interface Wire extends Omit<ZmachineLight, 'cpu' | 'memory' | 'network'> {
    readonly network: T['network']
    readonly compute: { readonly cpu: number; readonly memory: bigint }
  }
  const wire = struct<Wire>(goType, {
    flist: ['flist', string()],
    network: ['network', network],
    size: ['size', u64('gridtypes.Unit')],
    compute: [
      'compute_capacity',
      struct<Wire['compute']>('zos.MachineCapacity', {
        cpu: ['cpu', u8],
        memory: ['memory', u64('gridtypes.Unit')],
      }),
    ],
    mounts: [
      'mounts',
      list(
        struct<ZmachineLight['mounts'][number]>('zos.MachineMount', {
          name: ['name', name],
          mountpoint: ['mountpoint', string()],
        }),
      ),
    ],
    entrypoint: ['entrypoint', string()],
    env: ['env', mapOf(string())],
    corex: ['corex', bool],
    gpu: ['gpu', list(string('zos.GPU'))],
  })
  return mapped(
    wire,
    ({ compute, ...rest }) => ({ ...rest, ...compute }) as unknown as T,
    ({ cpu, memory, ...rest }) => ({ ...rest, compute: { cpu, memory } }),
  )
}

function checkSizes(data: ZmachineLight): void {
  const { interfaces } = data.network
  must(interfaces.length === 1, 'only one network private network is supported at the moment')
  must(
    interfaces.every(({ ip }) => ip !== ''),
    'invalid IP',
  )
  must(data.cpu > 0, "cpu capacity can't be 0")
  must(data.memory >= 250n * MIB, "mem capacity can't be less that 250M")
  const least = leastRootSize(data)
  must(
    data.size === 0n || data.size >= least,
    `disk size can't be less that ${least}. Set to 0 for minimum`,
  )
}

function checkPublicIp(ip: string, neighbours: Neighbours): void {
  const type = neighbours.typeOf(ip)
  must(type !== undefined, 'public ip is not found')
  if (type !== 'ip' && type !== 'ipv4') {
    // There, the error that was to be given is nil, and the checks that follow are left out too.
    must(neighbours.referenceSlips, `workload of name '${ip}' is not a public ip`)
  }
  must(neighbours.publicIpUsers(ip) <= 1, 'public ip is assigned to multiple vms')
}

function checkNetwork({ network: { interfaces, mycelium } }: ZmachineLight): void {
  for (const { network } of interfaces) {
    must(!RESERVED_NETWORKS.includes(network), `'${network}' is reserved network name`)
  }
  must(
    mycelium === undefined || mycelium.hexSeed.length === 2 * SEED_BYTES,
    'invalid mycelium seed length expected 6 bytes',
  )
}

function challenge(data: ZmachineLight, network: string): string {
  const { interfaces, mycelium } = data.network
  return (
    data.flist +
    network +
    interfaces.map(({ network, ip }) => network + unset(ip)).join('') +
    (mycelium ? mycelium.network + mycelium.hexSeed : '') +
    data.size +
    data.cpu +
    data.memory +
    data.mounts.map(({ name, mountpoint }) => name + mountpoint).join('') +
    data.entrypoint +
    [...data.env]
      .sort(([a], [b]) => compareUtf8(a, b))
      .map(([key, value]) => `${key}=${value}`)
      .join('') +
    data.gpu.join('')
  )
}

function capacity(data: ZmachineLight): Partial<Capacity> {
  return { cru: BigInt(data.cpu), mru: data.memory, sru: rootSizeOf(data) }
}
