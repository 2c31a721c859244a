import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { runCpuBenchmark } from '../plugins/zos/node/cpu-benchmark.ts'
import type { NodeFacts, PerfResult } from '../plugins/zos/node/facts.ts'
import { runHealthchecks } from '../plugins/zos/node/healthcheck.ts'
import { Perf } from '../plugins/zos/node/perf.ts'
import { within } from '../src/deadline.ts'
import { nodeFacts } from './helpers/zos-node.ts'

/** The result of a task, as soon as there is one. */
async function result(facts: Pick<NodeFacts, 'perf'>, name: string): Promise<PerfResult> {
  const look = async () => {
    for (;;) {
      const found = facts.perf().find((one) => one.name === name)
      if (found) return found
      await sleep(10)
    }
  }
  return within(40_000, look(), 'give a result')
}

const NEVER = new AbortController().signal

test('benchmark: seconds on one thread and on all, with the workloads of that time', async () => {
  const found = await runCpuBenchmark({
    threads: 2,
    workloads: async () => 7,
    steps: 100_000,
    signal: NEVER,
  })
  assert.deepEqual(Object.keys(found), ['single', 'multi', 'threads', 'workloads'])
  assert.ok(found.single > 0 && found.multi > 0)
  assert.deepEqual([found.threads, found.workloads], [2, 7])
})

test('benchmark: a stop ends it at once', async () => {
  const stop = new AbortController()
  const options = { threads: 1, workloads: () => 0, steps: 1e15, signal: stop.signal }
  const running = runCpuBenchmark(options)
  setTimeout(() => stop.abort(), 100)
  await assert.rejects(within(30_000, running, 'end'), /it was stopped/)
  await assert.rejects(runCpuBenchmark(options), { name: 'AbortError' })
})

test('perf: the health check runs always, the benchmark where it is configured', async (t) => {
  const checks = { network: () => ['no default route'] }
  const { facts } = nodeFacts(t, { taskDelayMs: 0, checks })
  assert.deepEqual(facts.perf(), [])
  await facts.start()
  const health = await result(facts, 'healthcheck')
  assert.deepEqual(health.result, { storage: [], network: ['no default route'] })
  assert.ok(Number.isInteger(health.timestamp))
  assert.equal(typeof health.description, 'string')
  assert.deepEqual(facts.perf(), [health])
  await facts.stop()

  const options = { taskDelayMs: 0, benchmarkIntervalMs: 3_600_000, workloads: () => 3 }
  const other = nodeFacts(t, options)
  await other.facts.start()
  const { threads, workloads } = (await result(other.facts, 'cpu-benchmark')).result as Record<
    string,
    number
  >
  assert.equal(BigInt(threads ?? 0), (await other.facts.capacity()).total.cru)
  assert.equal(workloads, 3)
  await other.facts.stop()
  await other.facts.stop()
})

test('perf: storage that is gone is named by the health check', async (t) => {
  const { facts } = nodeFacts(t, { taskDelayMs: 0, dataFolders: [{ path: '/nonexistent/data' }] })
  await facts.start()
  const { result: health } = await result(facts, 'healthcheck')
  assert.deepEqual(health, { storage: ['no data folder can be read'] })
})

test('health: checks that throw or reject are wrong themselves, and texts are bounded', async () => {
  const found = await runHealthchecks(
    {
      well: async () => [],
      throws: () => {
        throw new Error('cannot look')
      },
      rejects: () => Promise.reject(new Error('refused')),
      much: () => Array.from({ length: 500 }, () => 'x'.repeat(5000)),
    },
    NEVER,
  )
  assert.deepEqual(found.well, [])
  assert.deepEqual(found.throws, ['cannot look'])
  assert.deepEqual(found.rejects, ['refused'])
  assert.equal(found.much?.length, 100)
  assert.equal(found.much?.[0]?.length, 1000)
})

test('health: a stop ends the waiting for a check that never answers', async () => {
  const stop = new AbortController()
  let told = false
  const running = runHealthchecks(
    {
      stuck: (signal) => {
        signal.addEventListener('abort', () => {
          told = true
        })
        return new Promise(() => {})
      },
    },
    stop.signal,
  )
  stop.abort()
  assert.deepEqual(await within(20_000, running, 'end'), { stuck: ['it was stopped'] })
  assert.equal(told, true)
})

test('perf: one task at a time, again and again, failures logged, nothing after a stop', async () => {
  const log: string[] = []
  const runs: string[] = []
  let at = 0
  let running = 0
  const task = (name: string, fails: boolean) => ({
    name,
    description: name,
    delayMs: 0,
    intervalMs: 1,
    run: async () => {
      running++
      assert.equal(running, 1)
      await sleep(5)
      running--
      runs.push(name)
      if (fails && runs.filter((one) => one === name).length === 2) throw new Error('broken')
      return runs.length
    },
  })
  const perf = new Perf({
    tasks: [task('a', true), task('b', false)],
    log: { warn: (message) => log.push(message) },
    now: () => ++at,
  })
  const facts = { perf: () => perf.results() }
  perf.start()
  perf.start()
  await result(facts, 'a')
  await result(facts, 'b')
  const failed = async () => {
    while (log.length === 0 || runs.at(-1) !== 'a') await sleep(5)
  }
  await within(30_000, failed(), 'go on after a failure')
  await perf.stop()
  assert.deepEqual(log, ['Cannot run the task "a": broken'])
  const names = perf.results().map(({ name }) => name)
  assert.deepEqual(names, ['a', 'b'])
  const count = runs.length
  await sleep(50)
  assert.equal(runs.length, count)
  // And it can be started again.
  perf.start()
  const more = async () => {
    while (runs.length === count) await sleep(5)
  }
  await within(30_000, more(), 'run again')
  await perf.stop()
})
