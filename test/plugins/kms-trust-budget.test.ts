/** How much work strangers may cause. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  VERIFICATION_LIMITS,
  type VerificationLimits,
  verificationBudget,
} from '../../plugins/kms/trust/verification-budget.ts'
import type { ApiError } from '../../src/errors.ts'

const PLENTY = { burst: 1_000_000, perSecond: 1_000_000 }

function setup(limits: Partial<VerificationLimits> = {}) {
  let now = 5000
  const all = { perPeer: { burst: 3, perSecond: 2 }, all: PLENTY, maxPeers: 100, ...limits }
  const budget = verificationBudget(all, () => now)
  return {
    pass: (ms: number) => {
      now += ms
    },
    /** Seconds to wait, 0 where nothing was refused. */
    spend(address: string | undefined): number {
      try {
        budget.spend(address)
        return 0
      } catch (error) {
        const { status, code, headers, message } = error as ApiError
        assert.deepEqual([status, code], [429, 'RATE_LIMITED'])
        const wait = headers['retry-after']
        assert.match(wait ?? '', /^[1-9][0-9]*$/)
        assert.equal(message, `Too many verifications: try again in ${wait} s`)
        return Number(wait)
      }
    },
  }
}

describe('the budget', () => {
  test('of a peer is a burst, and so many a second', () => {
    const { spend, pass } = setup()
    const taken = () => [1, 2, 3, 4].map(() => spend('192.0.2.1'))
    assert.deepEqual(taken(), [0, 0, 0, 1])
    pass(500)
    assert.deepEqual(taken(), [0, 1, 1, 1])
    pass(1000)
    assert.deepEqual(taken(), [0, 0, 1, 1])
    pass(60_000)
    assert.deepEqual(taken(), [0, 0, 0, 1])
  })

  test('says how long to wait, also for slow rates', () => {
    const { spend, pass } = setup({ perPeer: { burst: 1, perSecond: 0.1 } })
    assert.deepEqual([spend('192.0.2.1'), spend('192.0.2.1')], [0, 10])
    pass(3500)
    assert.equal(spend('192.0.2.1'), 7)
    pass(6500)
    assert.equal(spend('192.0.2.1'), 0)
  })

  test('is one for an IPv6 network, and for IPv4 however it is written', () => {
    const { spend } = setup({ perPeer: { burst: 1, perSecond: 1 } })
    assert.equal(spend('2001:db8:0:1::1'), 0)
    assert.equal(spend('2001:db8:0:1:ffff::2'), 1)
    assert.equal(spend('2001:db8:0:2::1'), 0)
    assert.equal(spend('192.0.2.1'), 0)
    assert.equal(spend('::ffff:192.0.2.1'), 1)
    assert.equal(spend(undefined), 0)
    assert.equal(spend(undefined), 1)
  })

  test('of all bounds many peers', () => {
    const { spend, pass } = setup({ all: { burst: 5, perSecond: 1 } })
    const from = (number: number) => spend(`192.0.2.${number}`)
    assert.deepEqual([1, 2, 3, 4, 5].map(from), [0, 0, 0, 0, 0])
    assert.equal(from(6), 1)
    pass(1000)
    assert.equal(from(7), 0)
    assert.equal(from(8), 1)
  })

  test('of a peer is not touched while that of all is used up', () => {
    const { spend, pass } = setup({ all: { burst: 1, perSecond: 1 } })
    assert.equal(spend('192.0.2.1'), 0)
    for (let i = 0; i < 50; i++) assert.equal(spend('192.0.2.2'), 1)
    pass(1000)
    assert.equal(spend('192.0.2.2'), 0)
  })

  test('remembers so many peers, those who asked last', () => {
    const { spend } = setup({ maxPeers: 2, perPeer: { burst: 1, perSecond: 0.001 } })
    assert.deepEqual(
      ['a', 'b', 'a', 'c', 'c', 'b', 'a'].map(spend).map(Math.sign),
      [0, 0, 1, 0, 1, 1, 0],
    )
  })

  test('has room for a rack, and leaves half of a core, by default', () => {
    const { perPeer, all } = VERIFICATION_LIMITS
    assert.ok(perPeer.burst >= 64)
    assert.ok(all.perSecond * 7 < 500, 'milliseconds a second')
  })

  test('is never exceeded in any time, and never less than what is waited for', () => {
    const step = fc.record({
      ms: fc.nat({ max: 3000 }),
      peer: fc.constantFrom('192.0.2.1', '192.0.2.2', '2001:db8::1'),
    })
    const rate = fc.record({
      burst: fc.integer({ min: 1, max: 5 }),
      perSecond: fc.constantFrom(0.5, 1, 2, 10),
    })
    fc.assert(
      fc.property(rate, rate, fc.array(step, { maxLength: 60 }), (perPeer, all, steps) => {
        const { spend, pass } = setup({ perPeer, all })
        const taken: { at: number; peer: string }[] = []
        let at = 0
        let last = ''
        for (const { ms, peer } of steps) {
          at += ms
          pass(ms)
          const wait = spend(peer)
          if (wait === 0) taken.push({ at, peer })
          last = wait > 0 ? peer : last
        }
        for (const [start, { at: from }] of taken.entries()) {
          for (const [index, { at: to }] of taken.entries()) {
            if (index < start) continue
            const between = taken.slice(start, index + 1)
            const most = ({ burst, perSecond }: typeof all) =>
              burst + ((to - from) * perSecond) / 1000 + 1e-6
            assert.ok(between.length <= most(all))
            const ofPeer = between.filter(({ peer }) => peer === between[0]?.peer)
            assert.ok(ofPeer.length <= most(perPeer))
          }
        }
        if (last === '') return
        const wait = spend(last)
        pass(wait * 1000)
        if (wait > 0) assert.equal(spend(last), 0)
      }),
    )
  })
})
