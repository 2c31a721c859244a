import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { PullProgress } from '../src/engine/images.ts'
import { createPullMeter } from '../src/engine/pull-meter.ts'

const said = (status: string, layer: string, current = 0, total = 0): PullProgress => ({
  status,
  layer,
  current,
  total,
})

test('a pull of two layers goes from 0 to 100', () => {
  const meter = createPullMeter()
  const steps: [PullProgress, number][] = [
    [said('Pulling from library/app', 'latest'), 0],
    [said('Pulling fs layer', 'a'), 0],
    [said('Pulling fs layer', 'b'), 0],
    [said('Downloading', 'a', 50, 100), 20],
    [said('Download complete', 'a'), 40],
    [said('Extracting', 'a', 100, 100), 50],
    [said('Downloading', 'a', 1, 100), 50],
    [said('Already exists', 'b'), 99],
    [said('Pull complete', 'a'), 99],
  ]
  for (const [progress, percent] of steps) {
    meter.add(progress)
    assert.equal(meter.percent(), percent, progress.status)
  }
  meter.done()
  assert.equal(meter.percent(), 100)
})

test('numbers that are none count as nothing, or as all', () => {
  const meter = createPullMeter()
  meter.add({ status: 'Downloading', layer: 'a', current: Number.NaN, total: 1 })
  assert.equal(meter.percent(), 0)
  const endless = Number.POSITIVE_INFINITY
  meter.add({ status: 'Downloading', layer: 'a', current: endless, total: endless })
  assert.equal(meter.percent(), 80)
})

test('whatever an engine says, the number is whole, below 100, and never falls', () => {
  const statuses = [
    'Pulling fs layer',
    'Downloading',
    'Extracting',
    'Pull complete',
    'Retrying',
    '',
  ]
  const progress = fc.record({
    status: fc.constantFrom(...statuses),
    layer: fc.constantFrom('', 'a', 'b', 'c'),
    current: fc.oneof(fc.double(), fc.integer()),
    total: fc.oneof(fc.double(), fc.integer()),
  })
  fc.assert(
    fc.property(fc.array(progress), (all) => {
      const meter = createPullMeter()
      let before = 0
      for (const one of all) {
        meter.add(one)
        const now = meter.percent()
        assert.ok(Number.isInteger(now) && now >= before && now < 100, `${before} to ${now}`)
        before = now
      }
    }),
  )
})
