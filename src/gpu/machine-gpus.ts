import type { Transport } from '../device/transport.ts'
import { type Gpu, GpuError, type GpuHolder, type GpuState, type Gpus } from './gpus.ts'
import { askConfidential, askNvidia, type NvidiaFacts } from './nvidia-smi.ts'
import { hwmonTemperature, listPciGpus, type PciGpu } from './pci.ts'
import { namesIn, readPciIds } from './pci-ids.ts'

export interface MachineGpusOptions {
  readonly transport: Transport
  /** Folder that stands for /. */
  readonly root: string
}

/** AMD and NVIDIA. */
const VENDORS: ReadonlySet<string> = new Set(['1002', '10de'])

/** Integrated ones are on the first bus. */
const INTEGRATED = '0000:00:'

/** VGA compatible, 3D and other display controllers, whatever their programming interface. */
const CLASSES = /^03(00|02|80)/

const STATES_KEPT_MS = 5000

/** The GPUs of the machine that runs the daemon. Opens nothing before it is asked. */
export class MachineGpus implements Gpus {
  readonly #options: MachineGpusOptions
  readonly #holders = new Map<string, GpuHolder>()
  #found: Promise<readonly Gpu[]> | undefined
  #states: { readonly at: number; readonly states: Promise<readonly GpuState[]> } | undefined

  constructor(options: MachineGpusOptions) {
    this.#options = options
  }

  async list(classes: 'all' | 'reference' = 'all'): Promise<readonly Gpu[]> {
    this.#found ??= this.#look()
    const found = await this.#found
    return classes === 'all' ? found : found.filter((gpu) => gpu.class === '030000')
  }

  states(): Promise<readonly GpuState[]> {
    const now = performance.now()
    if (!this.#states || now - this.#states.at > STATES_KEPT_MS) {
      this.#states = { at: now, states: this.#ask() }
    }
    return this.#states.states
  }

  async claim(ids: readonly string[], holder: GpuHolder): Promise<void> {
    const known = new Set((await this.list()).map(({ id }) => id))
    for (const id of ids) {
      if (!known.has(id)) throw new GpuError('GPU_UNKNOWN', id, `unknown GPU id '${id}'`)
      const now = this.#holders.get(id)
      if (now && !(now.owner === holder.owner && now.workload === holder.workload)) {
        throw new GpuError('GPU_TAKEN', id, `GPU '${id}' is used by contract ${now.contract}`)
      }
    }
    for (const id of ids) this.#holders.set(id, holder)
  }

  release(owner: string, workload: string): void {
    for (const [id, holder] of this.#holders) {
      if (holder.owner === owner && holder.workload === workload) this.#holders.delete(id)
    }
  }

  holder(id: string): GpuHolder | undefined {
    return this.#holders.get(id)
  }

  async #look(): Promise<readonly Gpu[]> {
    const { transport, root } = this.#options
    const devices = (await listPciGpus(transport)).filter(
      (one) =>
        VENDORS.has(one.vendor) && CLASSES.test(one.class) && !one.slot.startsWith(INTEGRATED),
    )
    if (devices.length === 0) return []
    const database = await readPciIds(root)
    const names = namesIn(database ?? '', devices)
    const nvidia = await this.#nvidia(devices)
    return devices.map((one, index) => ({
      id: `${one.slot}/${one.vendor}/${one.device}`,
      slot: one.slot,
      class: one.class,
      vendor: names[index]?.vendor ?? 'unknown',
      device: names[index]?.device ?? 'unknown',
      ...memoryOf(one, nvidia?.get(one.slot)),
      driver: one.driver,
      numaNode: one.numaNode,
      uuid: nvidia?.get(one.slot)?.uuid ?? '',
    }))
  }

  /** Another machine's tree says nothing about this one's driver. */
  async #nvidia(
    devices: readonly Pick<PciGpu, 'driver'>[],
  ): Promise<ReadonlyMap<string, NvidiaFacts> | undefined> {
    if (this.#options.root !== '/') return undefined
    return devices.some(({ driver }) => driver === 'nvidia') ? await askNvidia() : undefined
  }

  async #ask(): Promise<readonly GpuState[]> {
    const found = await this.list()
    const nvidia = await this.#nvidia(found)
    const confidential = nvidia ? await askConfidential() : 'unknown'
    return await Promise.all(
      found.map(async (gpu) => {
        const facts = nvidia?.get(gpu.slot)
        return {
          ...gpu,
          driverVersion: facts?.driverVersion ?? '',
          temperature:
            facts?.temperature ?? (await hwmonTemperature(this.#options.transport, gpu.slot)),
          confidentialComputing: facts ? confidential : 'unknown',
        }
      }),
    )
  }
}

function memoryOf(
  { memory, largestBar }: PciGpu,
  facts: NvidiaFacts | undefined,
): Pick<Gpu, 'memory' | 'memoryFrom'> {
  const told = facts?.memory ?? memory
  if (told !== undefined && told > 0) return { memory: told, memoryFrom: 'driver' }
  if (largestBar > 0) return { memory: largestBar, memoryFrom: 'window' }
  return { memory: 0, memoryFrom: 'unknown' }
}
