import { DriverError, type SharedNetwork, type Task } from '../../plugins/zos/drivers/driver.ts'
import {
  type DataOf,
  type Result,
  type Workload,
  type WorkloadOf,
  type WorkloadType,
  workloadId,
} from '../../plugins/zos/model.ts'
import { deploymentOf, taskOf } from './zos-storage-task.ts'

export { workloadOf } from './zos-storage-task.ts'

export function networkData(
  subnet: string,
  more: Partial<DataOf['network']> = {},
): DataOf['network'] {
  return {
    ipRange: '10.44.0.0/16',
    subnet,
    wireguardPrivateKey: 'canary-wireguard-key',
    wireguardListenPort: 0,
    peers: [],
    mycelium: undefined,
    ...more,
  }
}

const MIB = 1024n * 1024n

/** A machine of the test image at an address of the network `net`. */
export function machineData(
  ip: string,
  more: Partial<DataOf['zmachine']> = {},
): DataOf['zmachine'] {
  return {
    flist: 'docker://cvmd-test:latest',
    network: {
      publicIp: '',
      planetary: false,
      mycelium: undefined,
      interfaces: [{ network: 'net', ip }],
    },
    size: 0n,
    cpu: 1,
    memory: 256n * MIB,
    mounts: [],
    entrypoint: '',
    env: new Map(),
    corex: false,
    gpu: [],
    ...more,
  }
}

export interface TestTwin {
  readonly twinId?: number
  readonly contractId?: bigint
  readonly workloads: readonly Workload[]
  /** By name; `ok` without data for those that are not named. */
  readonly results?: Readonly<Record<string, Partial<Result>>>
  readonly rentContract?: bigint
}

/** The tasks of a deployment whose networks all run, and what they told. */
export function tasksOf(twin: TestTwin, signal: AbortSignal = new AbortController().signal) {
  const { twinId = 7, contractId = 40n, workloads, results = {}, rentContract } = twin
  const deployment = { ...deploymentOf(workloads), twinId, contractId }
  const told: string[] = []
  const resultOf = (name: string): Result | undefined => {
    if (!workloads.some((one) => one.name === name)) return undefined
    return { created: 1, state: 'ok', message: '', data: 'null', ...results[name] }
  }
  const network = (name: string): SharedNetwork | undefined => {
    const workload = workloads.find((one) => one.name === name)
    if (workload?.type !== 'network' && workload?.type !== 'network-light') return undefined
    return { id: workloadId(twinId, contractId, name), workload }
  }
  const of = <T extends WorkloadType>(type: T, name: string): Task<T> => {
    const workload = workloads.find((one) => one.name === name && one.type === type)
    if (!workload) throw new Error(`the test has no ${type} ${name}`)
    return taskOf(workload as WorkloadOf<T>, {
      id: workloadId(twinId, contractId, name),
      deployment,
      resultOf,
      network,
      rentContract: async () => rentContract,
      progress: (text) => void told.push(text),
      signal,
    })
  }
  return { of, told }
}

/** Whether it is such a {@link DriverError}, for `assert.rejects`. */
export function driverError(kind: DriverError['kind'], words: RegExp) {
  return (error: unknown) => {
    if (error instanceof DriverError && error.kind === kind && words.test(error.message))
      return true
    throw error
  }
}

/** Waits for what comes soon; fails with these words when it does not. */
export async function eventually<T>(
  what: string,
  ask: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  const deadline = Date.now() + DEADLINE_MS
  for (;;) {
    const answer = await ask()
    if (answer !== undefined && answer !== false) return answer
    if (Date.now() > deadline) throw new Error(`it never came: ${what}`)
    await new Promise((tick) => setTimeout(tick, 30))
  }
}

const DEADLINE_MS = 30_000
