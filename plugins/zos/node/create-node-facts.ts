import { networkInterfaces } from 'node:os'
import { type Capacity, NO_CAPACITY } from '../model.ts'
import { ZosError } from '../zos-error.ts'
import type { Interfaces } from './addresses.ts'
import { countConnections } from './connections.ts'
import { runCpuBenchmark } from './cpu-benchmark.ts'
import { ExitNic } from './exit-nic.ts'
import type { Location, NodeFacts, Pool, PublicConfig } from './facts.ts'
import { type HealthCheck, runHealthchecks } from './healthcheck.ts'
import { HostFiles, type HostReader } from './host-files.ts'
import { readHypervisor } from './hypervisor.ts'
import { readMemory } from './memory.ts'
import { HostNetwork } from './network.ts'
import { type NodeLog, Notes } from './notes.ts'
import { Perf, type PerfTask } from './perf.ts'
import { type DataFolder, type FolderSpace, Pools } from './pools.ts'
import { countProcessors } from './processors.ts'
import { Programs } from './programs.ts'
import { readDmi } from './read-dmi.ts'
import { shortCache } from './short-cache.ts'
import { zinitVersion } from './version.ts'
import { wireguardPorts } from './wireguard-ports.ts'

export interface NodeFactsOptions {
  /** Folder that stands for `/`. */
  readonly root: string
  /** Second way to files below /proc and /sys, such as the device layer's transport. */
  readonly reader?: HostReader | undefined
  readonly dataFolders: readonly DataFolder[]
  /** Where the choice of the public NIC is kept; absolute, made when missing. */
  readonly stateFolder: string
  /** Of this daemon: what `zos` of `zos.system.version` is. */
  readonly version: string
  readonly publicConfig?: PublicConfig | undefined
  readonly location?: Location | undefined
  /** See {@link ExitNic}. */
  readonly nicHook?: readonly string[] | undefined
  /** Fail where DMI is not understood, as the reference does. */
  readonly strictDmi?: boolean | undefined
  /** Listen ports of the networks that run. */
  readonly workloadPorts: () => Iterable<number>
  /** Number of workloads that run, for `cpu-benchmark`. */
  readonly workloads: () => number | Promise<number>
  /** Milliseconds between two runs of `cpu-benchmark`; left out, it never runs. */
  readonly benchmarkIntervalMs?: number | undefined
  /** Checks of the task `healthcheck`; `storage` is there always. */
  readonly checks?: Readonly<Record<string, HealthCheck>> | undefined
  /** Milliseconds between two runs of `healthcheck`. Default: 15 minutes. */
  readonly healthcheckIntervalMs?: number | undefined
  readonly log: NodeLog
  /** Folders where tools are looked for, as in `PATH`. Default: the daemon's own. */
  readonly path?: string | undefined
  /** Default: `os.networkInterfaces` on the real root, nothing elsewhere. */
  readonly interfaces?: (() => Interfaces) | undefined
  /** Default: stat(2) and statfs(2). */
  readonly space?: ((path: string) => Promise<FolderSpace>) | undefined
  /** Monotonic milliseconds. */
  readonly now?: (() => number) | undefined
  /** Milliseconds until the first tasks run. Default: 5 s, and 60 s for the benchmark. */
  readonly taskDelayMs?: number | undefined
}

/** How long figures are good for that are read from files. */
const FRESH_MS = 1000

const GIB = 1024n ** 3n

/** Facts of this machine; opens nothing before `start` or the first question. */
export function createNodeFacts(options: NodeFactsOptions): NodeFacts {
  const { root, log, version, now } = options
  const notes = new Notes(log)
  const files = new HostFiles({ root, reader: options.reader, notes })
  const programs = new Programs(options.path)
  const tools = { files, programs, notes }
  const interfaces = options.interfaces ?? (root === '/' ? networkInterfaces : () => ({}))
  const network = new HostNetwork({ files, notes, interfaces })
  const { stateFolder, nicHook: hook } = options
  const exitNic = new ExitNic({ network, programs, notes, stateFolder, hook })
  const pools = new Pools({ folders: options.dataFolders, files, notes, space: options.space })

  const processors = shortCache(() => countProcessors(files), Number.POSITIVE_INFINITY)
  const memory = shortCache(() => readMemory(files), FRESH_MS, now)
  const listPools = shortCache(() => pools.list(), FRESH_MS, now)
  const perf = new Perf({ tasks: tasksOf(options, listPools, processors), log })

  return {
    async capacity() {
      const [cru, { total: mru }, all] = await Promise.all([processors(), memory(), listPools()])
      const total: Capacity = {
        ...NO_CAPACITY,
        cru: BigInt(cru),
        mru,
        sru: sizeOf(all, 'ssd'),
        hru: sizeOf(all, 'hdd'),
      }
      return { total, system: { ...NO_CAPACITY, mru: reserved(mru) } }
    },
    availableMemory: async () => (await memory()).available,
    openConnections: shortCache(() => countConnections(files), FRESH_MS, now),
    pools: listPools,
    wireguardPorts: shortCache(() => wireguardPorts(tools, options.workloadPorts()), 0),
    hasIpv6: async () => network.hasIpv6() || !!options.publicConfig?.ipv6,
    interfaces: () => network.interfaces(),
    async publicConfig() {
      if (options.publicConfig) return options.publicConfig
      throw new ZosError('failed', 'no public configuration')
    },
    adminInterfaces: () => network.adminInterfaces(),
    publicNic: async () => exitNic.get(),
    setPublicNic: (device) => exitNic.set(device),
    version: shortCache(async () => ({ zos: version, zinit: await zinitVersion(programs) }), 0),
    dmi: shortCache(() => readDmi(tools, options.strictDmi ?? false), 0),
    hypervisor: shortCache(() => readHypervisor(tools), 0),
    perf: () => perf.results(),
    location() {
      if (options.location) return options.location
      throw new ZosError('failed', 'failed to fetch location information')
    },
    async start() {
      programs.start()
      await exitNic.load()
      perf.start()
    },
    async stop() {
      await Promise.all([perf.stop(), programs.stop()])
    },
  }
}

/** What the node keeps of its memory for itself (spec §8). */
function reserved(mru: bigint): bigint {
  const tenth = (mru * 10n) / 100n
  return tenth > 2n * GIB ? tenth : 2n * GIB
}

function sizeOf(pools: readonly Pool[], type: Pool['type']): bigint {
  return pools.reduce((sum, pool) => (pool.type === type ? sum + pool.size : sum), 0n)
}

function tasksOf(
  options: NodeFactsOptions,
  pools: () => Promise<readonly Pool[]>,
  processors: () => Promise<number>,
): PerfTask[] {
  const { dataFolders, checks, benchmarkIntervalMs, taskDelayMs } = options
  const storage: HealthCheck = async () => {
    const found = (await pools()).length
    return found > 0 || dataFolders.length === 0 ? [] : ['no data folder can be read']
  }
  const tasks: PerfTask[] = [
    {
      name: 'healthcheck',
      description: 'Runs checks of what the node needs, and lists what is wrong by their names.',
      delayMs: taskDelayMs ?? 5000,
      intervalMs: options.healthcheckIntervalMs ?? 15 * 60_000,
      run: (signal) => runHealthchecks({ storage, ...checks }, signal),
    },
  ]
  if (benchmarkIntervalMs !== undefined) {
    tasks.unshift({
      name: 'cpu-benchmark',
      description: 'Measures the CPU by the seconds that a fixed task takes, at lowest priority.',
      delayMs: taskDelayMs ?? 60_000,
      intervalMs: benchmarkIntervalMs,
      run: async (signal) => {
        const threads = await processors()
        return runCpuBenchmark({ threads, workloads: options.workloads, signal })
      },
    })
  }
  return tasks
}
