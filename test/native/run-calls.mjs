// Makes calls on a test build of the addon in a process of its own: run-calls.mjs FILE SCENARIO
import { isMainThread, Worker, workerData } from 'node:worker_threads'

const [file, scenario] = isMainThread ? process.argv.slice(2) : [workerData, 'worker']
const TSM = '/sys/kernel/config/tsm/report'
const STUCK = `${TSM}/x/fifo`

const module = { exports: {} }
process.dlopen(module, file)
const addon = module.exports
const say = (line) => process.stdout.write(`${line}\n`)

const scenarios = {
  /** Nothing keeps the process once its own work is done. */
  idle: async () => say(await addon.stat('/proc/meminfo')),
  /** A call that never ends keeps neither a process that exits nor one that is finished. */
  exit: async () => {
    void addon.read(STUCK, 10)
    say(await addon.stat('/proc/meminfo'))
    process.exit(0)
  },
  finish: async () => {
    void addon.read(STUCK, 10)
    say(await addon.stat('/proc/meminfo'))
  },
  /** The environment of a call may go away before the call ends. */
  workers: async () => {
    for (let i = 0; i < 4; i++) {
      const worker = new Worker(new URL(import.meta.url), { workerData: file })
      await new Promise((done) => worker.once('message', done))
      await worker.terminate()
    }
    say(await addon.stat('/proc/meminfo'))
    process.exit(0)
  },
  worker: async () => {
    const { parentPort } = await import('node:worker_threads')
    const release = await addon.lock(`${TSM}/x/inblob`)
    for (let i = 0; i < 50; i++) void addon.nsm('/dev/nsm', Uint8Array.of(1))
    for (let i = 0; i < 3; i++) void addon.read(STUCK, 10)
    parentPort.postMessage(release)
    setInterval(() => {}, 1000)
  },
}
const hold = setInterval(() => {}, 1000)
await scenarios[scenario]()
if (isMainThread) clearInterval(hold)
