import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import test from 'node:test'

/** The benchmarks are plain JavaScript, so that `npm run bench` needs no loader. */
const load = <Module>(file: string): Promise<Module> => import(`../bench/${file}`)

interface Stats {
  median(numbers: number[]): number
  quantile(numbers: number[], share: number): number
  rotated(list: string[], round: number): string[]
}

interface Wrk {
  readWrk(output: string): { requests: number; perSecond: number; p99Ms: number }
}

const WRK = `Running 1s test @ http://127.0.0.1:1/livez
  Latency Distribution
     50%  410.00us
     99%    2.50ms
  12345 requests in 1.10s, 1.50MB read
Requests/sec:  11222.73
`

test('bench: median and quantiles of a few numbers', async () => {
  const { median, quantile, rotated } = await load<Stats>('stats.mjs')
  assert.equal(median([3, 1, 2]), 2)
  assert.equal(median([4, 1, 2, 3]), 2.5)
  assert.equal(quantile([5, 1, 4, 2, 3], 0.99), 5)
  assert.equal(quantile([5, 1, 4, 2, 3], 0), 1)
  assert.deepEqual(rotated(['a', 'b', 'c'], 4), ['b', 'c', 'a'])
})

test('bench: figures of wrk are read, its errors are not overlooked', async () => {
  const { readWrk } = await load<Wrk>('wrk.mjs')
  const figures = { requests: 12345, perSecond: 11222.73, p99Ms: 2.5 }
  assert.deepEqual(readWrk(WRK), figures)
  for (const line of [
    '  Non-2xx or 3xx responses: 7',
    '  Socket errors: connect 0, read 3, write 0, timeout 0',
  ]) {
    assert.throws(() => readWrk(`${WRK}${line}\n`), new Error(line.trim()))
  }
  assert.throws(() => readWrk('unable to connect'), /no figures/)
})

test('bench: an unknown name is refused with the known ones', () => {
  const { status, stderr } = spawnSync('node', ['bench/run.mjs', 'htpp'], { encoding: 'utf8' })
  assert.equal(status, 2)
  assert.match(stderr, /no benchmark "htpp", expected one of event-ring, dispatch/)
})
