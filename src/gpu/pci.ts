import { PCI_DEVICES } from '../device/paths.ts'
import type { Transport } from '../device/transport.ts'

/** A display controller as PCI and its driver's sysfs show it. */
export interface PciGpu {
  /** `0000:28:00.0` */
  readonly slot: string
  /** Six hex digits: `030000`. */
  readonly class: string
  /** Four hex digits each. */
  readonly vendor: string
  readonly device: string
  readonly subsystemVendor: string
  readonly subsystemDevice: string
  /** Bytes of the largest memory resource (BAR); 0 when none is shown. */
  readonly largestBar: number
  /** Bytes of its own memory as amdgpu tells; undefined where the driver does not. */
  readonly memory: number | undefined
  /** Kernel driver; '' when none is bound. */
  readonly driver: string
  /** -1 when there is none. */
  readonly numaNode: number
}

const MAX_SLOTS = 4096
const MAX_GPUS = 256
const MAX_FILE_BYTES = 4096
/** `IORESOURCE_MEM` in include/linux/ioport.h. */
const MEMORY_RESOURCE = 0x200

/**
 * Every display controller (base class 03h), in the order of their slots. Empty where PCI cannot be
 * looked at.
 *
 * Documentation/ABI/testing/sysfs-bus-pci; `mem_info_vram_total` is amdgpu's
 * (drivers/gpu/drm/amd/amdgpu/amdgpu_vram_mgr.c).
 */
export async function listPciGpus(transport: Transport): Promise<readonly PciGpu[]> {
  const slots = await transport.list(PCI_DEVICES).catch(() => [])
  const found: PciGpu[] = []
  for (const slot of slots.slice(0, MAX_SLOTS)) {
    const text = reader(transport, `${PCI_DEVICES}/${slot}`)
    const code = hex(await text('class'), 6)
    if (!code.startsWith('03')) continue
    const fields = ['vendor', 'device', 'subsystem_vendor', 'subsystem_device'] as const
    const [vendor = '', device = '', subsystemVendor = '', subsystemDevice = ''] =
      await Promise.all(fields.map(async (name) => hex(await text(name), 4)))
    const [resources, uevent, memory, numa] = await Promise.all(
      ['resource', 'uevent', 'mem_info_vram_total', 'numa_node'].map(text),
    )
    found.push({
      slot,
      class: code,
      vendor,
      device,
      subsystemVendor,
      subsystemDevice,
      largestBar: largestMemory(resources ?? ''),
      memory: /^\d{1,15}$/.test(memory ?? '') ? Number(memory) : undefined,
      driver: /^DRIVER=([\w-]+)$/m.exec(uevent ?? '')?.[1] ?? '',
      numaNode: /^\d{1,4}$/.test(numa ?? '') ? Number(numa) : -1,
    })
    if (found.length === MAX_GPUS) break
  }
  return found
}

/** Degrees Celsius as the driver's hwmon tells (amdgpu, nouveau); undefined where it does not. */
export async function hwmonTemperature(
  transport: Transport,
  slot: string,
): Promise<number | undefined> {
  const folder = `${PCI_DEVICES}/${slot}/hwmon`
  const [first] = await transport.list(folder).catch(() => [])
  if (first === undefined) return undefined
  const text = await reader(transport, `${folder}/${first}`)('temp1_input')
  return /^-?\d{1,7}$/.test(text) ? Number(text) / 1000 : undefined
}

function reader(transport: Transport, folder: string) {
  return async (name: string): Promise<string> => {
    const bytes = await transport.read(`${folder}/${name}`, MAX_FILE_BYTES).catch(() => undefined)
    return new TextDecoder().decode(bytes).trim()
  }
}

/** `0x10de` → `10de`; '' for anything else. */
function hex(text: string, digits: number): string {
  const [, found = ''] = /^0x([0-9a-f]+)$/.exec(text) ?? []
  return found.length === digits ? found : ''
}

/** Lines of `<start> <end> <flags>`, both ends inclusive; an unused one is all zeros. */
function largestMemory(resources: string): number {
  let largest = 0
  for (const line of resources.split('\n').slice(0, 32)) {
    const parts = line.split(' ')
    if (parts.length !== 3 || !parts.every((part) => /^0x[0-9a-f]{1,16}$/.test(part))) continue
    const [start = 0n, end = 0n, flags = 0n] = parts.map(BigInt)
    if (end <= start || (Number(flags & 0xffffn) & MEMORY_RESOURCE) === 0) continue
    largest = Math.max(largest, Number(end - start + 1n))
  }
  return largest
}
