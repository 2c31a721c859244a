/** What is remembered of peers that were verified. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { refusal } from '../../plugins/kms/trust/refusal.ts'
import { verificationCache } from '../../plugins/kms/trust/verification-cache.ts'
import type { VerifiedEvidence } from '../../plugins/kms/trust/verified-evidence.ts'
import { ApiError } from '../../src/errors.ts'
import { BOOT_INFO } from './kms-policy-fixtures.ts'

const START = 1_800_000_000_000

const somebody = (appId: string, validUntil?: number): VerifiedEvidence => {
  const boot = { ...BOOT_INFO, appId }
  return { boot, bootTime: boot, validUntil }
}

function setup(maxEntries?: number) {
  let now = START
  let verified = 0
  const cache = verificationCache({ maxEntries, now: () => now })
  return {
    at: (time: number) => {
      now = time
    },
    verified: () => verified,
    of: (key: string, verify: () => Promise<VerifiedEvidence>) =>
      cache.of(key, () => {
        verified += 1
        return verify()
      }),
  }
}

describe('a peer', () => {
  const [ANNA, BERT] = [somebody('aa'), somebody('bb')]

  test('is verified once a minute, and once for all who ask at the same time', async () => {
    const { of, at, verified } = setup()
    const anna = async () => ANNA
    assert.deepEqual(await Promise.all([of('a', anna), of('a', anna)]), [ANNA, ANNA])
    at(START + 59_999)
    assert.equal(await of('a', anna), ANNA)
    assert.equal(verified(), 1)
    at(START + 60_000)
    assert.equal(await of('a', anna), ANNA)
    assert.equal(verified(), 2)
  })

  test('is nobody else', async () => {
    const { of, verified } = setup()
    const both = [of('a', async () => ANNA), of('b', async () => BERT)]
    assert.deepEqual(await Promise.all(both), [ANNA, BERT])
    assert.equal(await of('a', async () => BERT), ANNA)
    assert.equal(await of('b', async () => ANNA), BERT)
    assert.equal(verified(), 2)
  })

  test('is not known longer than its certificate is valid', async () => {
    const { of, at, verified } = setup()
    const short = async () => somebody('aa', START + 1000)
    await of('a', short)
    at(START + 999)
    await of('a', short)
    assert.equal(verified(), 1)
    at(START + 1000)
    await of('a', short)
    await of('a', short)
    assert.equal(verified(), 3, 'nothing is kept of what is over')
  })

  test('is verified again when the clock was set back', async () => {
    const { of, at, verified } = setup()
    await of('a', async () => ANNA)
    at(START - 1)
    await of('a', async () => ANNA)
    assert.equal(verified(), 2)
  })

  test('that was refused is refused for a minute', async () => {
    const { of, at, verified } = setup()
    const refused = async () => {
      throw refusal('UNAUTHORIZED', 'No attestation provided')
    }
    for (let i = 0; i < 3; i++) {
      await assert.rejects(of('a', refused), { status: 401, message: 'No attestation provided' })
    }
    assert.equal(verified(), 1)
    at(START + 60_000)
    assert.equal(await of('a', async () => ANNA), ANNA)
    assert.equal(await of('a', refused), ANNA)
  })

  test('is not known by faults that are not his, nor by what he has to wait for', async () => {
    const { of, verified } = setup()
    for (const error of [
      refusal('INTERNAL_ERROR', 'no collateral'),
      new ApiError(429, 'RATE_LIMITED', 'Too many verifications'),
      new TypeError('a mistake'),
    ]) {
      await assert.rejects(
        of('a', async () => {
          throw error
        }),
        error,
      )
      await assert.rejects(
        of('a', () => {
          throw error
        }),
        error,
      )
    }
    assert.equal(verified(), 6)
    assert.equal(await of('a', async () => ANNA), ANNA)
  })

  test('is one of so many, those who came last', async () => {
    const { of, verified } = setup(2)
    const anna = async () => ANNA
    for (const key of ['a', 'b', 'a', 'c', 'a', 'c']) await of(key, anna)
    assert.equal(verified(), 3)
    await of('b', anna)
    assert.equal(verified(), 4)
  })

  test('is not forgotten for others who are refused', async () => {
    const { of, verified } = setup(2)
    await of('a', async () => ANNA)
    for (let i = 0; i < 20; i++) {
      const stranger = of(`stranger ${i}`, async () => {
        throw refusal('UNAUTHORIZED', 'No attestation provided')
      })
      await assert.rejects(stranger)
    }
    await of('a', async () => BERT)
    assert.equal(verified(), 21)
  })
})
