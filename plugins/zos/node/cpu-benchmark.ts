import { Worker } from 'node:worker_threads'
import { within } from '../../../src/deadline.ts'

/** Steps of the task: some tenths of a second on a processor of today. */
const STEPS = 100_000_000

const DEADLINE_MS = 60_000

/** Threads at one time, however many processors there are. */
const MAX_THREADS = 256

/** Result of `cpu-benchmark` (spec §9.7): seconds the task took. */
export interface CpuBenchmark {
  /** On one thread. */
  readonly single: number
  /** On one thread per processor at the same time, the slowest of them. */
  readonly multi: number
  readonly threads: number
  readonly workloads: number
}

export interface CpuBenchmarkOptions {
  readonly threads: number
  /** Workloads that run, which take their part of the processors. */
  readonly workloads: () => number | Promise<number>
  /** Default: 100 million. */
  readonly steps?: number | undefined
  /** Ends it early. */
  readonly signal: AbortSignal
}

/**
 * Measures the processors with a fixed task in threads of their own, at the lowest priority so that
 * workloads and requests go first: a loaded node shows what it has to spare.
 *
 * @throws {Error} When a thread fails, takes over a minute, or `signal` is aborted.
 */
export async function runCpuBenchmark(options: CpuBenchmarkOptions): Promise<CpuBenchmark> {
  const { steps = STEPS, signal, workloads } = options
  const threads = Math.min(Math.max(1, options.threads), MAX_THREADS)
  const single = await measure(steps, signal)
  const all = Array.from({ length: threads }, () => measure(steps, signal))
  const multi = Math.max(...(await Promise.all(all)))
  return { single, multi, threads, workloads: await workloads() }
}

/** Runs in the worker: no import of ours, so that it is one text in the single-file build too. */
const TASK = `
import { setPriority } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
// Of the calling thread alone: Linux knows no other.
try { setPriority(0, 19) } catch {}
const started = performance.now()
let x = 1
for (let i = 0; i < workerData.steps; i++) x = (Math.imul(x ^ (x >>> 13), 0x5bd1e995) + i) | 0
parentPort.postMessage({ seconds: (performance.now() - started) / 1000, x })
`

async function measure(steps: number, signal: AbortSignal): Promise<number> {
  signal.throwIfAborted()
  const url = new URL(`data:text/javascript,${encodeURIComponent(TASK)}`)
  const worker = new Worker(url, { workerData: { steps } })
  // The daemon's end does not wait for it.
  worker.unref()
  let give = () => {}
  try {
    const done = new Promise<number>((resolve, reject) => {
      worker.on('message', ({ seconds }: { seconds: number }) => resolve(seconds))
      worker.on('error', reject)
      worker.on('exit', () => reject(new Error('the thread ended without a result')))
      give = () => reject(new Error('it was stopped'))
      signal.addEventListener('abort', give)
    })
    return await within(DEADLINE_MS, done, 'finish')
  } finally {
    signal.removeEventListener('abort', give)
    await worker.terminate()
  }
}
