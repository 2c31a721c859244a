import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { QueueError } from '../src/device/devices.ts'
import { type CallOutcome, DeviceQueue, type QueueOptions } from '../src/device/queue.ts'

/** A device that ends its calls only when told to. */
class Device {
  /** Names of the calls that reached it, in order. */
  readonly seen: string[] = []
  readonly outcomes: CallOutcome[] = []
  readonly queue: DeviceQueue
  readonly #ends: (() => void)[] = []
  #busy = 0

  constructor(options: Partial<QueueOptions> = {}) {
    const observer = { call: (outcome: CallOutcome) => void this.outcomes.push(outcome) }
    this.queue = new DeviceQueue({ device: 'the device', observer, ...options })
  }

  call(name: string, options: Parameters<DeviceQueue['run']>[1] = {}): Promise<string> {
    const work = async (abandoned: AbortSignal) => {
      assert.equal(++this.#busy, 1, 'one call at a time')
      this.seen.push(name)
      await new Promise<void>((end) => this.#ends.push(end))
      this.#busy--
      if (name.startsWith('bad')) throw new Error(name)
      return abandoned.aborted ? `${name}, abandoned` : name
    }
    return this.queue.run(work, options)
  }

  /** Ends the running call, and waits until the next one runs. */
  async end(): Promise<void> {
    this.#ends.shift()?.()
    await turn()
  }

  async endAll(): Promise<void> {
    while (this.#ends.length > 0) await this.end()
  }
}

/** Lets everything that is due happen. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function refused(code: QueueError['code']) {
  return (error: unknown) => error instanceof QueueError && error.code === code
}

/** Keeps a promise whose fate is asserted later from counting as unhandled. */
function later<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}

test('queue: one call at a time, in order, each with its own result', async () => {
  const device = new Device()
  const calls = ['a', 'b', 'c'].map((name) => device.call(name))
  assert.deepEqual(device.seen, ['a'])
  assert.equal(device.queue.waiting, 2)
  await device.endAll()
  assert.deepEqual(await Promise.all(calls), ['a', 'b', 'c'])
  assert.equal(device.queue.waiting, 0)
  assert.equal(device.queue.busyMs, 0)
})

test('queue: a failure goes to its caller only, also one before the first await', async () => {
  const device = new Device()
  const bad = later(device.call('bad'))
  const thrower = () => {
    throw new TypeError('at once')
  }
  const thrown = later(device.queue.run(thrower as () => Promise<never>))
  const good = device.call('good')
  await device.endAll()
  await assert.rejects(bad, new Error('bad'))
  await assert.rejects(thrown, new TypeError('at once'))
  assert.equal(await good, 'good')
  assert.deepEqual(device.outcomes, ['failed', 'failed', 'done'])
})

test('queue: the seventeenth that waits is refused at once, with a time to come back', async () => {
  const device = new Device()
  const calls = Array.from({ length: 17 }, (_, i) => device.call(`${i}`))
  const error = await device.call('one too many').then(assert.fail, (e: QueueError) => e)
  assert.ok(refused('QUEUE_FULL')(error), String(error))
  assert.equal(error.message, 'Cannot ask the device: 16 calls wait already')
  assert.ok((error.retryAfterMs ?? 0) > 0)
  // Neither the refusal nor anything before it waited for the device.
  assert.deepEqual(device.seen, ['0'])
  await device.endAll()
  assert.equal((await Promise.all(calls)).length, 17)
  assert.equal(device.outcomes.filter((outcome) => outcome === 'full').length, 1)
})

test('queue: the time to come back follows service time and length', async () => {
  const times: number[] = []
  const device = new Device({
    waiting: 2,
    observer: { served: (_wait, service) => void times.push(service) },
  })
  const first = device.call('first')
  await new Promise((resolve) => setTimeout(resolve, 30))
  await device.endAll()
  await first
  const calls = ['a', 'b', 'c'].map((name) => device.call(name))
  const error = await device.call('d').then(assert.fail, (e: QueueError) => e)
  const [mean = 0] = times
  const retryAfterMs = error.retryAfterMs ?? 0
  assert.ok(retryAfterMs >= 2 * mean && retryAfterMs <= 3 * mean + 1, `${retryAfterMs} of ${mean}`)
  await device.endAll()
  await Promise.all(calls)
})

test('queue: callers take turns', async () => {
  const device = new Device()
  const calls = [
    ...['a1', 'a2', 'a3', 'a4'].map((name) => device.call(name, { caller: 'a' })),
    ...['b1', 'b2'].map((name) => device.call(name, { caller: 'b' })),
    device.call('c1', { caller: 'c' }),
  ]
  await device.endAll()
  await Promise.all(calls)
  assert.deepEqual(device.seen, ['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4'])
})

test('queue: one caller cannot keep out the others', async () => {
  const device = new Device({ waiting: 4 })
  const greedy = Array.from({ length: 5 }, (_, i) =>
    later(device.call(`g${i}`, { caller: 'greedy' })),
  )
  const others = ['x', 'y'].map((name) => device.call(name, { caller: name }))
  // Two places each for everybody is fair: nobody is turned away for a third.
  await assert.rejects(device.call('g5', { caller: 'greedy' }), refused('QUEUE_FULL'))
  await assert.rejects(device.call('x2', { caller: 'x' }), refused('QUEUE_FULL'))
  await device.endAll()
  assert.deepEqual(await Promise.all(others), ['x', 'y'])
  const fates = await Promise.allSettled(greedy)
  const served = fates.map(({ status }) => status === 'fulfilled')
  assert.deepEqual(served, [true, true, true, false, false])
  assert.equal(device.seen.length, 5)
})

test('queue: equal calls in flight share one result, later ones do not', async () => {
  const device = new Device()
  const running = [device.call('k', { key: 'k' }), device.call('k', { key: 'k' })]
  const waiting = [device.call('l', { key: 'l' }), device.call('l', { key: 'l' })]
  await device.endAll()
  assert.deepEqual(await Promise.all([...running, ...waiting]), ['k', 'k', 'l', 'l'])
  assert.deepEqual(device.seen, ['k', 'l'])
  const again = device.call('k', { key: 'k' })
  await device.endAll()
  await again
  assert.deepEqual(device.seen, ['k', 'l', 'k'])
})

test('queue: equal calls find a place in a full queue', async () => {
  const device = new Device({ waiting: 1 })
  const calls = [device.call('a'), device.call('b', { key: 'b' }), device.call('b', { key: 'b' })]
  await assert.rejects(device.call('c'), refused('QUEUE_FULL'))
  await device.endAll()
  assert.deepEqual(await Promise.all(calls), ['a', 'b', 'b'])
})

test('queue: who goes away gives the place back, and is never run', async () => {
  const device = new Device({ waiting: 1 })
  const first = device.call('first')
  const leaver = new AbortController()
  const left = later(device.call('left', { signal: leaver.signal }))
  await assert.rejects(device.call('no place'), refused('QUEUE_FULL'))
  leaver.abort()
  await assert.rejects(left, refused('ABORTED'))
  assert.equal(device.queue.waiting, 0)
  const second = device.call('second')
  await device.endAll()
  assert.deepEqual(await Promise.all([first, second]), ['first', 'second'])
  assert.deepEqual(device.seen, ['first', 'second'])
  await assert.rejects(device.call('late', { signal: leaver.signal }), refused('ABORTED'))
})

test('queue: one of several may go away, the call stays until the last is gone', async () => {
  const device = new Device()
  const first = device.call('first')
  const [a, b] = [new AbortController(), new AbortController()]
  const shared = [a, b].map(({ signal }) => later(device.call('s', { key: 's', signal })))
  a.abort()
  await assert.rejects(shared[0] as Promise<string>, refused('ABORTED'))
  assert.equal(device.queue.waiting, 1)
  await device.end()
  assert.deepEqual(device.seen, ['first', 's'])
  // It runs already: it is told, keeps the device until it ends, and nobody joins it any more.
  b.abort()
  await assert.rejects(shared[1] as Promise<string>, refused('ABORTED'))
  const anew = device.call('s again', { key: 's' })
  assert.deepEqual(device.seen, ['first', 's'])
  await device.endAll()
  assert.deepEqual([await first, await anew], ['first', 's again'])
})

test('queue: the work learns that nobody waits for it any more', async () => {
  const { queue } = new Device()
  const caller = new AbortController()
  let told: AbortSignal | undefined
  const result = queue.run(
    (abandoned) => {
      told = abandoned
      return new Promise(() => {})
    },
    { signal: caller.signal },
  )
  assert.equal(told?.aborted, false)
  caller.abort()
  await assert.rejects(result, refused('ABORTED'))
  assert.equal(told?.aborted, true)
})

test('queue: a stuck device: deadlines, quick refusals, and recovery when it ends', async () => {
  const device = new Device({ deadlineMs: 40 })
  const stuck = later(device.call('stuck', { key: 'stuck' }))
  const behind = later(device.call('behind'))
  await assert.rejects(stuck, refused('DEADLINE'))
  await assert.rejects(behind, {
    code: 'DEADLINE',
    message: 'Cannot ask the device: its turn did not come within 40 ms',
  })
  // The call still has the device: no place is worth waiting for, and its key is nobody's.
  assert.ok(device.queue.busyMs >= 39)
  for (const options of [{}, { key: 'stuck' }]) {
    const error = await device.call('new', options).then(assert.fail, (e: QueueError) => e)
    assert.ok(refused('QUEUE_FULL')(error), String(error))
    assert.match(error.message, /^Cannot ask the device: it has not answered for \d+ ms$/)
    assert.equal(error.retryAfterMs, 40)
  }
  await device.end()
  const after = device.call('after')
  await device.end()
  assert.equal(await after, 'after')
  assert.deepEqual(device.seen, ['stuck', 'after'])
  assert.deepEqual(device.outcomes, ['deadline', 'deadline', 'full', 'full', 'done'])
})

test('queue: one that joined late keeps its own deadline', async () => {
  const device = new Device({ deadlineMs: 600 })
  const early = later(device.call('k', { key: 'k' }))
  await new Promise((resolve) => setTimeout(resolve, 400))
  const joined = device.call('k', { key: 'k' })
  await assert.rejects(early, refused('DEADLINE'))
  await device.end()
  assert.equal(await joined, 'k')
})

test('queue: the observer sees waiting and service times', async () => {
  const served: [number, number][] = []
  const observer = { served: (wait: number, service: number) => void served.push([wait, service]) }
  const device = new Device({ observer })
  const calls = [device.call('a'), device.call('b')]
  await new Promise((resolve) => setTimeout(resolve, 20))
  await device.endAll()
  await Promise.all(calls)
  const [[waitA, serviceA], [waitB]] = served as [[number, number], [number, number]]
  assert.ok(waitA < serviceA && serviceA >= 19 && waitB >= 19, JSON.stringify(served))
})

test('queue: whatever comes and goes, every call ends once and the device is never shared', async () => {
  const step = fc.record({
    action: fc.constantFrom('call', 'call', 'call', 'abort', 'end'),
    caller: fc.constantFrom('a', 'b', 'c'),
    key: fc.option(fc.constantFrom('k', 'l'), { nil: undefined }),
    which: fc.nat(),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const device = new Device({ waiting: 3 })
      const calls: { name: string; control: AbortController; fate: Promise<unknown> }[] = []
      for (const [i, { action, caller, key, which }] of steps.entries()) {
        if (action === 'end') await device.end()
        else if (action === 'abort') calls[which % (calls.length || 1)]?.control.abort()
        else {
          const control = new AbortController()
          const options = { caller, signal: control.signal, ...(key !== undefined && { key }) }
          const name = key ?? `${i}`
          const fate = device.call(name, options).catch((error) => error)
          calls.push({ name, control, fate })
        }
        assert.ok(device.queue.waiting <= 3)
      }
      await device.endAll()
      for (const { name, fate } of calls) {
        const result = await fate
        assert.ok(result === name || result instanceof QueueError, String(result))
      }
      assert.equal(device.outcomes.length, calls.length)
      assert.equal(device.queue.waiting, 0)
      assert.equal(device.queue.busyMs, 0)
    }),
    { numRuns: 100 },
  )
})
