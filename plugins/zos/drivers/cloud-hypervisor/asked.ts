import { rootSizeOf } from '../../deployment/capacity.ts'
import { deviceName, networkId } from '../../deployment/ids.ts'
import { type MachineNetwork, workloadId, type ZmachineLight } from '../../model.ts'
import { privateAddress, publicAddress } from '../container/address.ts'
import { bindMounts } from '../container/mounts.ts'
import { DriverError, type Task } from '../driver.ts'
import { bridgeName, vdiskPath } from '../names.ts'
import { gatewayOf, readIpv4, readSubnet } from '../network-engine/subnet.ts'
import type { Seed, SeedMount, SeedNic } from './cloud-init.ts'
import type { MachineType } from './machine-files.ts'
import { type RootImage, rootImageOf } from './root-image.ts'
import { macOf, type Tap } from './taps.ts'

/** Everything that is asked for, checked; nothing is made yet. */
export interface Asked {
  readonly id: string
  readonly cpus: number
  /** Bytes. */
  readonly memory: bigint
  readonly image: RootImage
  readonly rootSize: bigint
  readonly taps: readonly Tap[]
  /** Raw disks after the root disk. */
  readonly disks: readonly string[]
  /** Folders of the host, by tag. */
  readonly shares: readonly { readonly tag: string; readonly folder: string }[]
  /** Addresses on the PCI bus. */
  readonly devices: readonly string[]
  readonly seed: Seed
}

export interface AskedOptions {
  /** Where disks and volumes are (`names.ts`). */
  readonly dataDir: string
  /** Bridge of the host on which public addresses are; left out, machines get none. */
  readonly publicBridge?: string | undefined
  readonly nameservers?: readonly string[] | undefined
}

const NAMESERVERS = ['1.1.1.1', '8.8.8.8', '2001:4860:4860::8888']
/** After the root disk `/dev/vda`, and before the one for cloud-init. */
const MAX_DISKS = 24
const MAX_SHARES = 32
const MAX_DEVICES = 16
/** Between nodes of a network, as the network drivers have it. */
const TRANSIT = '100.64.0.0/16'

/**
 * @throws {DriverError} `failed`, in the words of the reference where it has some.
 */
export function askedOf(task: Task<MachineType>, options: AskedOptions): Asked {
  const { id, workload } = task
  const machine: ZmachineLight = workload.data
  if (machine.corex) {
    throw new DriverError('failed', 'corex is not offered: machines start their own system here')
  }
  const cards = cardsOf(task, options)
  const { mounts, disks, shares } = mountsOf(task, options.dataDir)
  return {
    id,
    cpus: machine.cpu,
    memory: machine.memory,
    image: rootImageOf(machine.flist),
    rootSize: rootSizeOf(machine),
    taps: cards.map(({ tap }) => tap),
    disks,
    shares,
    devices: devicesOf(machine.gpu),
    seed: {
      id,
      hostname: workload.name.replaceAll('_', '-').replace(/^-+|-+$/g, '') || 'machine',
      env: machine.env,
      entrypoint: machine.entrypoint,
      nics: cards.map(({ nic }) => nic),
      nameservers: options.nameservers ?? NAMESERVERS,
      mounts,
    },
  }
}

interface Card {
  readonly tap: Tap
  readonly nic: SeedNic
}

/** The private one first. With a public one, that is the way out. */
function cardsOf(task: Task<MachineType>, options: AskedOptions): readonly Card[] {
  const { id, workload, deployment } = task
  const machine = workload.data
  const { ip } = privateAddress(machine, task)
  const [{ network = '' } = {}] = machine.network.interfaces
  const shared = task.network(network)?.workload.data
  const subnet = readSubnet(shared?.subnet ?? '')
  if (shared === undefined || subnet === undefined) {
    throw new DriverError('failed', `could not get network resource subnet: network '${network}'`)
  }
  const via = gatewayOf(subnet)
  const outside = publicCard(task, options)
  const near = [TRANSIT, ...(readSubnet(shared.ipRange) === undefined ? [] : [shared.ipRange])]
  const targets = outside === undefined ? ['0.0.0.0/0'] : near
  const name = deviceName(id, network)
  const inside: Card = {
    tap: { name, bridge: bridgeName(networkId(deployment.twinId, network)) },
    nic: {
      mac: macOf(name),
      addresses: [`${ip}/${subnet.prefix}`],
      routes: targets.map((to) => ({ to, via })),
    },
  }
  return outside === undefined ? [inside] : [inside, outside]
}

function publicCard(task: Task<MachineType>, { publicBridge }: AskedOptions): Card | undefined {
  const { publicIp = '' } = task.workload.data.network as Partial<MachineNetwork>
  if (publicIp === '') return undefined
  const ip = publicAddress(publicIp, task)
  if (publicBridge === undefined) {
    const reason = 'public ipv4 is requested, but not supported on this node'
    throw new DriverError('failed', `${reason}: no public bridge is configured`)
  }
  const given = JSON.parse(task.resultOf(publicIp)?.data ?? '{}') ?? {}
  const gateway = typeof given.gateway === 'string' ? given.gateway : ''
  const { twinId, contractId } = task.deployment
  const name = deviceName(workloadId(twinId, contractId, publicIp), 'pub')
  return {
    tap: { name, bridge: publicBridge },
    nic: {
      mac: macOf(name),
      // IPv6 comes by itself, from the card's address.
      addresses: ip === undefined ? [] : [String(given.ip)],
      routes: readIpv4(gateway) === undefined ? [] : [{ to: '0.0.0.0/0', via: gateway }],
    },
  }
}

function mountsOf(task: Task<MachineType>, dataDir: string) {
  const { deployment } = task
  const { mounts: wanted } = task.workload.data
  const disks: string[] = []
  const shares: { tag: string; folder: string }[] = []
  const found = bindMounts(wanted, task, dataDir)
  const mounts = found.map(({ source, target }, index): SeedMount => {
    const { name = '' } = wanted[index] ?? {}
    const { type } = deployment.workloads.find((one) => one.name === name) ?? {}
    if (type === 'volume') {
      // A tag has at most 36 bytes, as has a name.
      shares.push({ tag: name, folder: source })
      return { kind: 'share', tag: name, target }
    }
    disks.push(vdiskPath(dataDir, workloadId(deployment.twinId, deployment.contractId, name)))
    return { kind: 'disk', device: `/dev/vd${letter(disks.length)}`, target }
  })
  if (disks.length > MAX_DISKS || shares.length > MAX_SHARES) {
    const most = `${MAX_DISKS} disks and ${MAX_SHARES} volumes`
    throw new DriverError('failed', `Cannot mount that many: ${most} at most`)
  }
  return { mounts, disks, shares }
}

function letter(index: number): string {
  return String.fromCharCode('a'.charCodeAt(0) + index)
}

/** Of ids `slot/vendor/device`. */
function devicesOf(ids: readonly string[]): readonly string[] {
  if (ids.length > MAX_DEVICES) {
    throw new DriverError('failed', `Cannot pass on ${ids.length} GPUs: ${MAX_DEVICES} at most`)
  }
  return ids.map((id) => {
    const [slot = ''] = id.split('/')
    if (/^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/i.test(slot)) return slot.toLowerCase()
    throw new DriverError('failed', `unknown GPU id '${id.slice(0, 60)}'`)
  })
}
