import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { hashOf } from '../../plugins/zos/deployment/hash.ts'
import { readDeployment } from '../../plugins/zos/deployment/read.ts'
import { workloadWire } from '../../plugins/zos/deployment/wire.ts'
import type { Crash, Driver, Task } from '../../plugins/zos/drivers/driver.ts'
import { printJson } from '../../plugins/zos/json/print.ts'
import type { Deployment, WorkloadType } from '../../plugins/zos/model.ts'
import { createDeployments } from '../../plugins/zos/provision/create-deployments.ts'
import type { Deployments, WorkloadView } from '../../plugins/zos/provision/deployments.ts'
import type { DeploymentsOptions, Times } from '../../plugins/zos/provision/options.ts'
import {
  type Contract,
  type ContractState,
  type Registry,
  RegistryError,
} from '../../plugins/zos/registry/registry.ts'
import { toHex } from '../../src/attest/hex.ts'

export const NODE = 11

/** What a test waits for at most. */
const DEADLINE_MS = 20_000

/** A registry in memory. */
export class MemoryRegistry implements Registry {
  readonly contracts = new Map<bigint, Contract>()
  readonly names = new Map<string, bigint>()
  readonly asked: bigint[] = []
  unreachable = false
  nodeId = NODE
  rented: bigint | undefined
  #listeners = new Set<() => void>()

  /** Makes the contract of a deployment, or lets it say what the deployment is now. */
  agree(
    deployment: Deployment,
    state: ContractState = 'created',
    over: Partial<Contract> = {},
  ): void {
    const { contractId, twinId } = deployment
    const deploymentHash = toHex(hashOf(deployment))
    const data = { type: 'node', nodeId: NODE, deploymentHash, publicIps: [] } as const
    this.contracts.set(contractId, { contractId, twinId, state, data, ...over })
  }

  set(contractId: bigint, state: ContractState): void {
    const contract = this.contracts.get(contractId)
    if (contract) this.contracts.set(contractId, { ...contract, state })
  }

  changed(): void {
    for (const listener of this.#listeners) listener()
  }

  get listeners(): number {
    return this.#listeners.size
  }

  #ask(): void {
    if (this.unreachable) throw new RegistryError('REGISTRY_UNREACHABLE', 'nobody answers')
  }

  async node() {
    this.#ask()
    return { id: this.nodeId, twinId: 17, farmId: 1 }
  }

  async twin() {
    return undefined
  }

  async contract(id: bigint): Promise<Contract | undefined> {
    this.#ask()
    this.asked.push(id)
    return this.contracts.get(id)
  }

  async farmerTwin() {
    return 1
  }

  async rentContract() {
    this.#ask()
    return this.rented
  }

  async activeContracts() {
    this.#ask()
    return [...this.contracts.keys()]
  }

  async nameContract(name: string) {
    this.#ask()
    return this.names.get(name)
  }

  adminTwins() {
    return []
  }

  onChange(changed: () => void) {
    this.#listeners.add(changed)
    return () => void this.#listeners.delete(changed)
  }

  async start() {}
  async stop() {}
  notReady() {
    return undefined
  }
}

export type Step = 'provision' | 'update' | 'deprovision' | 'pause' | 'resume'

/** What runs, by id: its data, and whether it is paused. */
export type World = Map<string, { data: string; paused: boolean }>

/** A driver that keeps what it made in a map, and does as it is told. */
export class FakeDriver implements Driver {
  readonly type: WorkloadType
  readonly name: string = 'fake'
  readonly world: World
  readonly calls: string[]
  /** Called before each step; may wait, or throw. The answer becomes its result. */
  script: (step: Step, task: Task) => unknown = (_step, task) => ({ id: task.id })
  swept: ReadonlySet<string> | undefined
  crash: (crash: Crash) => void = () => undefined
  update?: NonNullable<Driver['update']>

  constructor(type: WorkloadType, world = new Map(), calls: string[] = []) {
    this.type = type
    this.world = world
    this.calls = calls
    if (['zmount', 'volume', 'network', 'network-light', 'zdb'].includes(type)) {
      this.update = (task) => this.#do('update', task)
    }
  }

  async #do(step: Step, task: Task): Promise<unknown> {
    this.calls.push(`${step} ${task.id}`)
    const answer = await this.script(step, task)
    const was = this.world.get(task.id)?.paused === true
    const paused = step === 'pause' || (step === 'update' && was)
    if (step === 'deprovision') this.world.delete(task.id)
    else this.world.set(task.id, { data: task.workload.rawData, paused })
    return answer
  }

  async probe() {
    return { able: true } as const
  }

  provision(task: Task): Promise<unknown> {
    return this.#do('provision', task)
  }

  async deprovision(task: Task): Promise<void> {
    await this.#do('deprovision', task)
  }

  async pause(task: Task): Promise<void> {
    await this.#do('pause', task)
  }

  async resume(task: Task): Promise<void> {
    await this.#do('resume', task)
  }

  async watch(crashed: (crash: Crash) => void, signal: AbortSignal): Promise<void> {
    this.crash = crashed
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve()
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
  }

  async sweep(wanted: ReadonlySet<string>): Promise<void> {
    this.swept = new Set(wanted)
  }
}

const FAKED = ['zmount', 'volume', 'network', 'ip', 'zmachine', 'zdb'] as const

/** A node with fakes below it, and what was seen of it. */
export class TestNode {
  readonly registry = new MemoryRegistry()
  readonly world: World
  readonly calls: string[] = []
  readonly drivers = new Map<WorkloadType, FakeDriver>()
  readonly events: string[] = []
  readonly logged: string[] = []
  readonly folder: string
  clock = 1_000_000
  deployments: Deployments
  readonly #more: Partial<DeploymentsOptions>

  constructor(folder: string, more: Partial<DeploymentsOptions> = {}, world: World = new Map()) {
    this.folder = folder
    this.world = world
    this.#more = more
    for (const type of FAKED) this.drivers.set(type, new FakeDriver(type, this.world, this.calls))
    this.deployments = this.#create()
  }

  #create(): Deployments {
    const log = (message: string) => void this.logged.push(message)
    const times: Partial<Times> = {
      retry: [20, 40],
      restart: [0, 5],
      contract: 60,
      contractAgain: 10,
      grace: 1000,
      disk: 10,
      registry: 2000,
    }
    return createDeployments({
      registry: this.registry,
      drivers: this.drivers,
      stateFolder: join(this.folder, 'deployments'),
      verify: async () => undefined,
      events: { append: (message) => void this.events.push(message) as never },
      log: { debug: log, info: log, warn: log, error: log },
      now: () => this.clock * 1000,
      ...this.#more,
      times: { ...times, ...this.#more.times },
    })
  }

  driver(type: WorkloadType): FakeDriver {
    return this.drivers.get(type) as FakeDriver
  }

  /** Agrees on a deployment and deploys or updates it; waits for the end of the work. */
  async accept(deployment: Deployment): Promise<void> {
    this.registry.agree(deployment)
    const { twinId } = deployment
    if (deployment.version === 0) await this.deployments.deploy(twinId, deployment)
    else await this.deployments.update(twinId, deployment)
    await this.idle()
  }

  idle(): Promise<void> {
    return inTime(this.deployments.idle(), 'come to rest')
  }

  /** Waits until something is so, looking again and again. */
  until(isSo: () => boolean, what: string): Promise<void> {
    let over = false
    const look = async () => {
      while (!isSo() && !over) await new Promise((resolve) => setTimeout(resolve, 2))
    }
    return inTime(look(), what).finally(() => {
      over = true
    })
  }

  /** As `kill -9` and a new start would do, but that what goes on may come to its end. */
  async restart(): Promise<void> {
    await inTime(this.deployments.stop(), 'stop')
    this.deployments = this.#create()
    await this.deployments.start()
  }

  /** `name state message`, in the order of the deployment. */
  states(twinId = 42, contractId = 10n): string[] {
    const { deployment, results } = this.deployments.get(twinId, contractId)
    return deployment.workloads.map(({ name }, i) =>
      `${name} ${results[i]?.state} ${results[i]?.message}`.trim(),
    )
  }

  async history(twinId = 42, contractId = 10n): Promise<string[]> {
    const views = await this.deployments.changes(twinId, contractId)
    return views.map(({ workload, result }) =>
      `${workload.name}@${workload.version} ${result.state} ${result.message}`.trim(),
    )
  }
}

/** A node for one test, started, in a folder that goes with it. */
export async function testNode(
  t: TestContext,
  more: Partial<DeploymentsOptions> = {},
): Promise<TestNode> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-zos-'))
  const node = new TestNode(folder, more)
  t.after(async () => {
    await node.deployments.stop()
    rmSync(folder, { recursive: true, force: true })
  })
  await node.deployments.start()
  return node
}

/** @throws {Error} That it did not do so in time. */
export async function inTime<T>(work: Promise<T>, what: string, ms = DEADLINE_MS): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`it did not ${what} within ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

export interface Plan {
  readonly name: string
  readonly type: string
  readonly data: object
  readonly version?: number
}

const GIB = 1024 ** 3

export function disk(name: string, gib: number, version = 0): Plan {
  return { name, type: 'zmount', data: { size: gib * GIB }, version }
}

export function network(name: string, version = 0): Plan {
  const data = {
    ip_range: '10.1.0.0/16',
    subnet: '10.1.2.0/24',
    wireguard_private_key: 'secret-key',
    wireguard_listen_port: 1234,
    peers: [],
  }
  return { name, type: 'network', data, version }
}

/** A machine in a network, with disks. */
export function machine(name: string, at: string, mounts: readonly string[] = []): Plan {
  const data = {
    flist: 'docker://cvmd-test:latest',
    network: { public_ip: '', planetary: false, interfaces: [{ network: at, ip: '10.1.2.3' }] },
    size: 0,
    compute_capacity: { cpu: 1, memory: GIB },
    mounts: mounts.map((disk) => ({ name: disk, mountpoint: `/${disk}` })),
    entrypoint: '',
    env: { TOKEN: 'secret-value' },
    corex: false,
    gpu: [],
  }
  return { name, type: 'zmachine', data }
}

export interface About {
  readonly twinId?: number
  readonly contractId?: bigint
  readonly version?: number
  readonly metadata?: string
}

export function deploymentOf(
  workloads: readonly Plan[],
  { twinId = 42, contractId = 10n, version = 0, metadata = '' }: About = {},
): Deployment {
  return readDeployment(
    printJson({
      version,
      twin_id: twinId,
      contract_id: contractId,
      metadata,
      description: '',
      expiration: 0,
      signature_requirement: {
        requests: [{ twin_id: twinId, required: false, weight: 1 }],
        weight_required: 1,
        signatures: [],
        signature_style: '',
      },
      workloads: workloads.map((plan) => ({
        version: 0,
        metadata: '',
        description: '',
        ...plan,
      })),
    }),
  )
}

/** As the wire has it. */
export function wireOf({ workload, result }: WorkloadView): unknown {
  return JSON.parse(printJson(workloadWire(workload, result)))
}
