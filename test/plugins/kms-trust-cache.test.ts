/** What is kept of collateral, how long, and what happens while the service is down. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import {
  type CollateralCacheLimits,
  collateralCache,
} from '../../plugins/kms/trust/collateral-cache.ts'
import type { Collateral } from '../../src/attest/tdx/collateral.ts'
import type { KnownCollateral } from '../../src/collateral/facts.ts'
import type { QuotedPlatform } from '../../src/collateral/platform.ts'
import { TrustError } from '../../src/collateral/trust-error.ts'
import { DAY_MS, PLATFORM_HERE } from './kms-trust-fixtures.ts'

const START = 1_800_000_000_000
const MONTH_MS = 30 * DAY_MS

/** Nothing looks into it. */
const known = (issued: number, validUntil: number): KnownCollateral => ({
  collateral: {} as Collateral,
  facts: { ...PLATFORM_HERE, issued, validUntil },
})

const platform = (number: number): QuotedPlatform => ({
  fmspc: number.toString(16).padStart(12, '0'),
  ca: 'platform',
})

const down = () => new TrustError('PCCS_UNREACHABLE', 'Cannot get http://x: ECONNREFUSED')

/** A service whose answers the test gives, and a cache in front of it. */
function setup(limits: Partial<CollateralCacheLimits> = {}) {
  const asked: QuotedPlatform[] = []
  const waiting: Deferred<KnownCollateral>[] = []
  const log: string[] = []
  const cache = collateralCache({
    fetch: (platform) => {
      asked.push(platform)
      const next = deferred<KnownCollateral>()
      waiting.push(next)
      return next.promise
    },
    log: (message) => log.push(message),
    limits,
  })
  const take = () => waiting.shift() ?? assert.fail('nothing was asked')
  return {
    asked,
    log,
    get: (at: number, of = PLATFORM_HERE) => cache.get(of, at),
    /** Answers what was asked first. */
    answer: (value: KnownCollateral) => take().resolve(value),
    fail: (error = down()) => take().reject(error),
  }
}

interface Deferred<T> {
  readonly promise: Promise<T>
  readonly resolve: (value: T) => void
  readonly reject: (error: unknown) => void
}

function deferred<T>(): Deferred<T> {
  let parts: Omit<Deferred<T>, 'promise'> | undefined
  const promise = new Promise<T>((resolve, reject) => {
    parts = { resolve, reject }
  })
  return { promise, ...(parts as Omit<Deferred<T>, 'promise'>) }
}

/** Lets what was answered get to the cache. */
const settled = () => new Promise<void>((done) => setImmediate(done))

describe('collateral of a service', () => {
  test('is fetched once for all who want it at the same time, and kept for a day', async () => {
    const { get, answer, asked } = setup()
    const first = known(START, START + MONTH_MS)
    const all = [get(START), get(START), get(START + 5)]
    assert.equal(asked.length, 1)
    answer(first)
    assert.deepEqual(await Promise.all(all), [first, first, first])
    assert.equal(await get(START + 0.7 * DAY_MS), first)
    assert.equal(asked.length, 1)
  })

  test('is fetched again by the way before its day is over', async () => {
    const { get, answer, asked } = setup()
    const [first, second] = [known(START, START + MONTH_MS), known(START + 1, START + MONTH_MS)]
    const wanted = get(START)
    answer(first)
    await wanted
    const late = START + 0.8 * DAY_MS
    assert.equal(await get(late), first)
    assert.equal(await get(late + 1), first)
    assert.equal(asked.length, 2)
    answer(second)
    await settled()
    assert.equal(await get(late + 2), second)
    assert.equal(await get(late + 0.7 * DAY_MS), second)
    assert.equal(asked.length, 2)
  })

  test('is fetched again before it is used when its day is over, or it is not valid', async () => {
    for (const [validUntil, at] of [
      [START + MONTH_MS, START + DAY_MS],
      [START + 1000, START + 1000],
    ] as const) {
      const { get, answer } = setup()
      const [first, second] = [known(START, validUntil), known(START, START + MONTH_MS)]
      const wanted = get(START)
      answer(first)
      assert.equal(await wanted, first)
      const next = get(at)
      answer(second)
      assert.equal(await next, second)
    }
  })

  test('serves on while the service is down, as long as it is valid', async () => {
    const { get, answer, fail, log, asked } = setup()
    const validUntil = START + 3 * DAY_MS
    const first = known(START, validUntil)
    const wanted = get(START)
    answer(first)
    await wanted
    const late = get(START + 2 * DAY_MS)
    fail()
    assert.equal(await late, first)
    assert.deepEqual(log, ['Cannot get http://x: ECONNREFUSED'])
    assert.equal(await get(START + 2 * DAY_MS + 1), first)
    assert.equal(asked.length, 2, 'nobody waits for a service that has just failed')
    const over = get(validUntil)
    fail()
    await assert.rejects(over, { code: 'PCCS_UNREACHABLE' })
  })

  test('is not looked for again at once where there was none', async () => {
    const { get, answer, fail, asked } = setup()
    const [one, two] = [get(START), get(START)]
    fail()
    await assert.rejects(one, { code: 'PCCS_UNREACHABLE' })
    await assert.rejects(two, { code: 'PCCS_UNREACHABLE' })
    await assert.rejects(get(START + 9_999), { code: 'PCCS_UNREACHABLE' })
    assert.equal(asked.length, 1)
    const later = get(START + 10_000)
    assert.equal(asked.length, 2)
    const found = known(START, START + MONTH_MS)
    answer(found)
    assert.equal(await later, found)
  })

  test('is looked for anew when the clock was set back', async () => {
    const { get, answer, fail } = setup()
    const failed = get(START)
    fail()
    await assert.rejects(failed)
    const earlier = get(START - DAY_MS)
    const found = known(START - DAY_MS, START + MONTH_MS)
    answer(found)
    assert.equal(await earlier, found)
    const evenEarlier = get(START - 2 * DAY_MS)
    const other = known(START - DAY_MS, START + MONTH_MS)
    answer(other)
    assert.equal(await evenEarlier, other)
  })

  test('does not get older', async () => {
    const { get, answer, log } = setup()
    const first = known(START, START + MONTH_MS)
    const wanted = get(START)
    answer(first)
    await wanted
    const next = get(START + DAY_MS)
    answer(known(START - 1, START + MONTH_MS))
    assert.equal(await next, first)
    assert.match(log[0] ?? '', /it is older than what there was before$/)
    const over = get(START + MONTH_MS)
    const older = known(START - 1, START + 2 * MONTH_MS)
    answer(older)
    assert.equal(await over, older, 'what is no longer valid is no reason to refuse')
  })

  test('is kept for so many platforms, and asked for of so many at a time', async () => {
    const { get, answer, asked } = setup({ maxPlatforms: 2, maxFetches: 2 })
    const found = known(START, START + MONTH_MS)
    const [one, two] = [get(START, platform(1)), get(START, platform(2))]
    await assert.rejects(get(START, platform(3)), { code: 'PCCS_BUSY' })
    answer(found)
    answer(found)
    await Promise.all([one, two])
    // The first is used again, so the second goes when a third comes.
    await get(START, platform(1))
    const three = get(START, platform(3))
    answer(found)
    await three
    assert.equal(asked.length, 3)
    await get(START, platform(1))
    await get(START, platform(3))
    assert.equal(asked.length, 3)
    const again = get(START, platform(2))
    answer(found)
    await again
    assert.equal(asked.length, 4)
  })

  test('is not pushed out by platforms there is none for', async () => {
    const { get, answer, fail, asked } = setup({ maxPlatforms: 2 })
    const found = known(START, START + MONTH_MS)
    const mine = get(START, platform(0))
    answer(found)
    await mine
    for (let i = 1; i <= 400; i++) {
      const strange = get(START, platform(i))
      fail(new TrustError('PCCS_REFUSED', 'status 404'))
      await assert.rejects(strange)
    }
    assert.equal(await get(START, platform(0)), found)
    assert.equal(asked.length, 401)
    await assert.rejects(get(START, platform(400)), { code: 'PCCS_REFUSED' })
    assert.equal(asked.length, 401)
  })

  test('tells processors and platforms apart', async () => {
    const { get, asked } = setup()
    void get(START)
    void get(START, { ...PLATFORM_HERE, ca: 'processor' })
    assert.deepEqual(
      asked.map(({ ca }) => ca),
      ['platform', 'processor'],
    )
  })
})
