import { isIP } from 'node:net'
import { isOkay, workloadId } from '../../model.ts'
import { type Driver, DriverError, type Task } from '../driver.ts'
import { createGuard, type Guard, ownNetworks } from '../guard.ts'
import type { MachineLogs } from '../machine-logs.ts'
import { LOCAL } from './local-address.ts'
import { LogPump } from './log-pump.ts'
import { type Output, readOutput } from './output.ts'

export interface ZlogsOptions {
  /** Of whoever runs machines of type `zmachine`. */
  readonly logs: MachineLogs
  /** `gzip` as the reference sends, each chunk by itself. Default: `gzip`. */
  readonly compression?: 'gzip' | 'none'
  /** Takes outputs at addresses of this node too. Default: false. */
  readonly allowLocal?: boolean
  /** Lines that wait for one output. Default: 512 KiB. */
  readonly bufferBytes?: number
  /** First pause after a failure; doubled with each. Default: 1 s. */
  readonly retryMs?: number
  /** Longest pause. Default: 60 s. */
  readonly maxRetryMs?: number
}

const BUFFER_BYTES = 512 * 1024
const RETRY_MS = 1000
const MAX_RETRY_MS = 60_000
const DEADLINE_MS = 30_000
/** Each has a buffer and two connections. */
const MAX_PUMPS = 256

/**
 * Carries what machines write to where their owners want it (spec §4.5): chunks of whole lines, sent
 * at least once while the daemon runs; after its restart the last 100 lines are sent again.
 */
export function createZlogsDriver(options: ZlogsOptions): Driver<'zlogs'> {
  const { compression = 'gzip', allowLocal = false } = options
  const guard = createGuard({ allowLocal })
  const pumps = new Map<string, { readonly key: string; readonly pump: LogPump }>()

  const stop = async (id: string): Promise<void> => {
    const found = pumps.get(id)
    pumps.delete(id)
    await found?.pump.stop()
  }

  const begin = (machineId: string, output: Output, refuses: Guard) =>
    new LogPump({
      machineId,
      logs: options.logs,
      output,
      refuses,
      compression,
      bufferBytes: options.bufferBytes ?? BUFFER_BYTES,
      retryMs: options.retryMs ?? RETRY_MS,
      maxRetryMs: options.maxRetryMs ?? MAX_RETRY_MS,
      deadlineMs: DEADLINE_MS,
    })

  return {
    type: 'zlogs',
    name: 'push',
    probe: async () => ({ able: true }),
    provision: async (task) => {
      const { id, workload } = task
      const machineId = machineOf(task)
      const output = readOutput(workload.data.output, allowLocal)
      const own = ownNetworks(task)
      const refuses: Guard = (address) => guard(address, own)
      if (isIP(output.host) > 0 && refuses(output.host) !== undefined) {
        throw new DriverError('failed', `cannot send logs to the output: ${LOCAL}`)
      }
      const key = `${machineId} ${workload.data.output}`
      if (pumps.get(id)?.key === key) return undefined
      await stop(id)
      if (pumps.size >= MAX_PUMPS) {
        const reason = `this node carries ${MAX_PUMPS} logs already, delete one of them`
        throw new DriverError('failed', reason)
      }
      pumps.set(id, { key, pump: begin(machineId, output, refuses) })
      return undefined
    },
    deprovision: async ({ id }) => await stop(id),
    health: async ({ id }) => {
      const state = pumps.get(id)?.pump.state
      if (!state) return [{ name: 'stream', ok: false, message: 'the log is not carried' }]
      const { connected, problem, sentChunks, droppedLines } = state
      const waiting = problem === '' ? 'is not connected yet' : problem
      return [
        {
          name: 'stream',
          ok: connected,
          message: connected ? 'the output is connected' : waiting,
          evidence: `${sentChunks} chunks sent, ${droppedLines} lines dropped`,
        },
      ]
    },
    sweep: async (wanted) => {
      for (const id of [...pumps.keys()]) if (!wanted.has(id)) await stop(id)
    },
    stop: async () => {
      await Promise.all([...pumps.keys()].map(stop))
    },
  }
}

/** @throws {DriverError} When it is no machine, or does not run. */
function machineOf({ workload, deployment, resultOf }: Task<'zlogs'>): string {
  const { zmachine } = workload.data
  const machine = deployment.workloads.find((one) => one.name === zmachine)
  if (machine?.type !== 'zmachine') {
    throw new DriverError('failed', `no zmachine with name '${zmachine}'`)
  }
  const result = resultOf(zmachine)
  if (!result || !isOkay(result)) throw new DriverError('failed', 'machine state is not ok')
  return workloadId(deployment.twinId, deployment.contractId, zmachine)
}
