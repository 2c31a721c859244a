import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Metrics } from '../src/metrics.ts'

/** The lines of one family as they are scraped. */
async function family(metrics: Metrics, name: string): Promise<string[]> {
  const text = await metrics.render()
  return text.split('\n').filter((line) => line.includes(name))
}

test('a histogram counts what took up to so long, by labels', async () => {
  const metrics = new Metrics()
  const histogram = metrics.of('test').histogram('cvmd_test_seconds', 'Time for a test.')
  for (const seconds of [0.001, 0.002, 0.5, 100]) histogram.observe(seconds, { kind: 'a"\\\n' })
  const lines = await family(metrics, 'cvmd_test_seconds')
  const bucket = (bound: string, count: number) =>
    `cvmd_test_seconds_bucket{kind="a\\"\\\\\\n",le="${bound}"} ${count}`
  assert.deepEqual(lines, [
    '# HELP cvmd_test_seconds Time for a test.',
    '# TYPE cvmd_test_seconds histogram',
    bucket('0.001', 1),
    bucket('0.005', 2),
    bucket('0.01', 2),
    bucket('0.05', 2),
    bucket('0.1', 2),
    bucket('0.5', 3),
    bucket('1', 3),
    bucket('5', 3),
    bucket('10', 3),
    bucket('30', 3),
    bucket('+Inf', 4),
    'cvmd_test_seconds_sum{kind="a\\"\\\\\\n"} 100.503',
    'cvmd_test_seconds_count{kind="a\\"\\\\\\n"} 4',
  ])
})

test('without labels there are no empty braces, and a second look finds the same family', async () => {
  const metrics = new Metrics()
  for (const owner of ['before a reload', 'after it']) {
    metrics.of(owner).histogram('cvmd_test_seconds', 'Time for a test.').observe(0)
  }
  const lines = await family(metrics, 'cvmd_test_seconds')
  assert.ok(lines.includes('cvmd_test_seconds_bucket{le="+Inf"} 2'))
  assert.ok(lines.includes('cvmd_test_seconds_sum 0'))
  assert.ok(lines.includes('cvmd_test_seconds_count 2'))
})

test('a name that breaks the rules is refused at once', () => {
  const metrics = new Metrics().of('test')
  assert.throws(() => metrics.histogram('test_seconds', ''), /Cannot measure "test_seconds"/)
})
