/** Several KMS of one cluster: in which order they are asked, and what is made of their failures. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { type KmsClusterOptions, kmsCluster } from '../../plugins/kms/agent/kms-cluster.ts'
import { kmsProblem } from '../../plugins/kms/agent/kms-problem.ts'
import { backoffMs } from '../../plugins/kms/agent/retry.ts'
import {
  type KmsConnection,
  KmsError,
  type KmsErrorCode,
} from '../../plugins/kms/client/connection.ts'
import { within } from '../../src/deadline.ts'
import { ApiError } from '../../src/errors.ts'
import { pause } from '../../src/pause.ts'

const failed = (code: KmsErrorCode, refusal?: string, text: string = code) =>
  new KmsError(code, text, { refusal })

/** Connections that answer with their URL; what was done with them, in order. */
function stand(options: Partial<KmsClusterOptions> = {}) {
  const done: string[] = []
  const passedOver: string[] = []
  /** What connecting to a URL throws, and what a call there does. */
  const away = new Map<string, Error>()
  const refusing = new Map<string, Error>()
  let closed = () => {}
  const nextClosed = () => new Promise<void>((resolve) => (closed = resolve))
  const cluster = kmsCluster({
    urls: ['a', 'b', 'c'],
    onPassedOver: (why) => void passedOver.push(why),
    connect: async (url): Promise<KmsConnection> => {
      done.push(`connect ${url}`)
      const error = away.get(url)
      if (error) throw error
      return {
        url,
        call: async () => {
          done.push(`call ${url}`)
          const refused = refusing.get(url)
          if (refused) throw refused
          return { url }
        },
        close: () => {
          done.push(`close ${url}`)
          closed()
        },
      } as unknown as KmsConnection
    },
    ...options,
  })
  const ask = async (signal?: AbortSignal) => {
    const answer = await cluster.use((kms) => kms.call('GetMeta', {}), signal)
    return answer.url
  }
  return { cluster, ask, done, away, refusing, passedOver, nextClosed }
}

const isApiError = (status: number, code: string) => (error: unknown) => {
  assert.ok(error instanceof ApiError, String(error))
  assert.deepEqual([error.status, error.code], [status, code])
  return true
}

describe('a cluster', () => {
  test('connects once, to the first, for all who ask at the same time and later', async () => {
    const { ask, done } = stand()
    assert.deepEqual(await Promise.all([ask(), ask()]), ['a', 'a'])
    assert.equal(await ask(), 'a')
    assert.deepEqual(done, ['connect a', 'call a', 'call a', 'call a'])
  })

  test('asks the next where one is away, slow, not to be believed or refuses', async () => {
    for (const code of [
      'KMS_UNREACHABLE',
      'KMS_TIMEOUT',
      'KMS_NOT_VERIFIED',
      'KMS_REFUSED',
      'KMS_MALFORMED',
    ] as const) {
      for (const when of ['away', 'refusing'] as const) {
        const { ask, passedOver, [when]: failing } = stand()
        failing.set('a', failed(code, undefined, 'of a'))
        failing.set('b', failed(code, undefined, 'of b'))
        assert.equal(await ask(), 'c')
        assert.deepEqual(passedOver, ['of a', 'of b'])
      }
    }
  })

  test('asks one that failed last from then on, and says so once', async () => {
    const { ask, away, done, passedOver } = stand()
    away.set('a', failed('KMS_TIMEOUT'))
    await ask()
    await ask()
    assert.deepEqual(done, ['connect a', 'connect b', 'call b', 'call b'])
    assert.equal(passedOver.length, 1)
  })

  test('keeps the connection to one that refuses, and ends that to one that fails', async () => {
    const { ask, refusing, done } = stand({ urls: ['a'] })
    refusing.set('a', failed('KMS_REFUSED'))
    await assert.rejects(ask(), isApiError(502, 'KMS_REFUSED'))
    await assert.rejects(ask(), isApiError(502, 'KMS_REFUSED'))
    refusing.set('a', failed('KMS_TIMEOUT'))
    await assert.rejects(ask(), isApiError(503, 'KMS_UNAVAILABLE'))
    refusing.clear()
    assert.equal(await ask(), 'a')
    assert.deepEqual(done, [
      'connect a',
      'call a',
      'call a',
      'call a',
      'close a',
      'connect a',
      'call a',
    ])
  })

  test('verifies anew one that has another certificate than before, at once and only once', async () => {
    const { ask, refusing, done } = stand({ urls: ['a'] })
    await ask()
    refusing.set('a', failed('KMS_CHANGED'))
    await assert.rejects(ask(), isApiError(502, 'KMS_CHANGED'))
    assert.deepEqual(done.slice(2), ['call a', 'close a', 'connect a', 'call a', 'close a'])
  })

  test('asks again where the connection ended because it failed for somebody else', async () => {
    const { cluster, ask, done } = stand({ urls: ['a'] })
    await ask()
    let fail: (error: Error) => void = () => {}
    const first = cluster.use(() => new Promise<string>((_, reject) => (fail = reject)))
    let close: (error: Error) => void = () => {}
    const second = cluster.use(async (kms) => {
      if (done.includes('close a')) return kms.url
      return new Promise<string>((_, reject) => (close = reject))
    })
    fail(failed('KMS_TIMEOUT'))
    await assert.rejects(first, isApiError(503, 'KMS_UNAVAILABLE'))
    close(failed('KMS_ABORTED'))
    assert.equal(await second, 'a')
    assert.deepEqual(done, ['connect a', 'call a', 'close a', 'connect a'])
  })

  test('asks nobody else about what no KMS would sign, or when the fault is ours', async () => {
    for (const [error, expected] of [
      [failed('KMS_REFUSED', 'CERTIFICATE_TOO_LARGE'), isApiError(409, 'CERTIFICATE_TOO_LARGE')],
      [new ApiError(502, 'DEVICE_FAILED', 'x'), isApiError(502, 'DEVICE_FAILED')],
      [new TypeError('bug'), TypeError],
    ] as const) {
      const { ask, refusing, done } = stand()
      refusing.set('a', error)
      await assert.rejects(ask(), expected)
      assert.deepEqual(done, ['connect a', 'call a'])
    }
  })

  test('is not waited for by who has gone; the connection is there for the others', async () => {
    let connected: (url: string) => void = () => {}
    const opened = new Promise<string>((resolve) => (connected = resolve))
    const { cluster, ask } = stand({
      connect: async () => {
        const url = await opened
        return { url, call: async () => ({ url }), close: () => {} } as never
      },
    })
    const gone = new AbortController()
    const [first, second] = [ask(gone.signal), ask()]
    gone.abort()
    await assert.rejects(first, isApiError(503, 'KMS_ABORTED'))
    connected('a')
    assert.equal(await second, 'a')
    await assert.rejects(ask(AbortSignal.abort()), isApiError(503, 'KMS_ABORTED'))
    cluster.close()
  })

  test('closes a connection that nobody uses, and opens another when it is needed', async () => {
    const { ask, done, nextClosed } = stand({ idleMs: 1 })
    const closed = nextClosed()
    await ask()
    await within(20_000, closed, 'close')
    assert.equal(await ask(), 'a')
    assert.deepEqual(done, ['connect a', 'call a', 'close a', 'connect a', 'call a'])
  })

  test('that is closed ends what is open and what is being opened, and opens nothing', async () => {
    const { cluster, ask, done } = stand()
    await ask()
    cluster.close()
    cluster.close()
    assert.deepEqual(done, ['connect a', 'call a', 'close a'])
    await assert.rejects(ask(), isApiError(503, 'KMS_ABORTED'))
    assert.equal(done.length, 3)

    let ended = false
    const late = stand({
      connect: async (url, signal) => {
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
        return { url, close: () => (ended = true) } as never
      },
    })
    const asked = late.ask()
    late.cluster.close()
    await assert.rejects(asked, isApiError(503, 'KMS_ABORTED'))
    assert.ok(ended)
  })
})

describe('failures of several', () => {
  test('are told by the one that says most, with all in the text', () => {
    const away = failed('KMS_UNREACHABLE', undefined, 'a is away')
    for (const [others, status, code] of [
      [[], 503, 'KMS_UNAVAILABLE'],
      [[failed('KMS_TIMEOUT')], 503, 'KMS_UNAVAILABLE'],
      [[failed('KMS_REFUSED', 'RATE_LIMITED')], 503, 'KMS_UNAVAILABLE'],
      [[failed('KMS_REFUSED', 'INTERNAL_ERROR')], 503, 'KMS_UNAVAILABLE'],
      [[failed('KMS_REFUSED', 'UNAUTHORIZED')], 502, 'KMS_REFUSED'],
      [[failed('KMS_REFUSED')], 502, 'KMS_REFUSED'],
      [[failed('KMS_NOT_VERIFIED')], 502, 'KMS_NOT_VERIFIED'],
      [[failed('KMS_MALFORMED'), failed('KMS_REFUSED', 'x')], 502, 'KMS_MALFORMED'],
      [
        [failed('KMS_REFUSED', 'x'), failed('KMS_REFUSED', 'CERTIFICATE_NAME')],
        400,
        'CERTIFICATE_NAME',
      ],
    ] as const) {
      const error = kmsProblem([away, ...others])
      assert.deepEqual([error.status, error.code], [status, code])
      assert.ok(error.message.startsWith('a is away'))
      assert.equal('retry-after' in error.headers, status === 503)
    }
    const long = Array.from({ length: 16 }, () => failed('KMS_TIMEOUT', undefined, 'x'.repeat(999)))
    assert.equal(kmsProblem(long).message.length, 2048)
  })
})

describe('the next attempt', () => {
  test('is after a second at least and a minute at most, later with each failure', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 10_000 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (failures, random) => {
          const ms = backoffMs(failures, () => random)
          assert.ok(ms >= 1000 && ms <= 60_000, String(ms))
          assert.ok(backoffMs(failures + 1, () => random) >= ms)
        },
      ),
    )
    assert.deepEqual(
      [1, 2, 3, 6, 7].map((failures) => backoffMs(failures, () => 1)),
      [2000, 4000, 8000, 60_000, 60_000],
    )
    assert.equal(new Set(Array.from({ length: 20 }, () => backoffMs(9))).size > 10, true)
  })

  test('is not waited for once it is not wanted', async () => {
    await pause(60_000, AbortSignal.abort())
    const ending = new AbortController()
    const waited = pause(60_000, ending.signal)
    ending.abort()
    await waited
    await pause(1, new AbortController().signal)
  })
})
