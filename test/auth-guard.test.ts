import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { createGuard, type Guard, type GuardOptions } from '../src/auth/guard.ts'
import { KeyStore } from '../src/auth/keys.ts'
import { PasswordStore } from '../src/auth/password.ts'
import { addressGroup, DEFAULT_THROTTLE, Throttle } from '../src/auth/throttle.ts'
import type { ApiError } from '../src/errors.ts'
import { Exchange } from '../src/http/exchange.ts'
import type { Caller } from '../src/plugin.ts'

const PASSWORD = 'correct horse: battery'
const GENEROUS = { burst: 1e9, intervalMs: 1, maxPeers: 1e6 }

const basic = (user: string, password: string) =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
const bearer = (token: string) => `Bearer ${token}`

function from(authorization?: string, address = '203.0.113.9', listener = 'test'): Exchange {
  return new Exchange(listener, {
    peer: () => ({ address, port: 50000 }),
    hold: () => undefined,
    header: (name) => (name === 'authorization' ? authorization : undefined),
  })
}

function refusal(guard: Guard, exchange: Exchange): ApiError {
  try {
    guard.authenticate(exchange)
  } catch (error) {
    return error as ApiError
  }
  throw new Error('expected a refusal')
}

interface Rig {
  readonly passwords: PasswordStore
  readonly keys: KeyStore
  readonly token: string
  readonly clock: { now: number }
  readonly throttle: Throttle
  guard(options?: Partial<GuardOptions>): Guard
}

async function withRig(
  work: (rig: Rig) => Promise<void> | void,
  limits = DEFAULT_THROTTLE,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-guard-'))
  try {
    const clock = { now: 0 }
    const passwords = new PasswordStore(join(folder, 'secret'), 'salt')
    await passwords.load()
    const keys = new KeyStore(join(folder, 'keys.json'), { monotonic: () => clock.now })
    keys.load()
    const { token } = await keys.add({ name: 'ci', scopes: ['events:read'] })
    const throttle = new Throttle(limits, () => clock.now)
    await work({
      passwords,
      keys,
      token,
      clock,
      throttle,
      guard: (options = {}) =>
        createGuard({
          methods: ['basic', 'key'],
          passwords,
          keys,
          throttle,
          realm: 'system-api',
          now: () => clock.now,
          ...options,
        }),
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

test("until a password is set: open under system-api's rule, closed otherwise", () =>
  withRig(async ({ passwords, guard }) => {
    const open = guard({ methods: ['basic'], openUntilSet: true })
    const closed = guard({ methods: ['basic'] })
    for (const header of [undefined, basic('x', 'y'), 'nonsense']) {
      assert.deepEqual(open.authenticate(from(header)), {
        kind: 'anonymous',
        name: 'anonymous',
        scopes: ['*'],
      })
      assert.equal(refusal(closed, from(header)).status, 401)
    }
    await passwords.set(Buffer.from(PASSWORD))
    for (const guarded of [open, closed]) {
      assert.equal(refusal(guarded, from()).status, 401)
      assert.deepEqual(guarded.authenticate(from(basic('admin', PASSWORD))), {
        kind: 'basic',
        name: 'admin',
        scopes: ['*'],
      })
    }
  }))

test("a refusal is exactly system-api's, with a challenge per accepted scheme", () =>
  withRig(({ guard }) => {
    const challengeOf = (options: Partial<GuardOptions>) => {
      const error = refusal(guard(options), from())
      assert.equal(error.name, 'ApiError')
      assert.equal(error.status, 401)
      assert.equal(error.code, 'UNAUTHORIZED')
      assert.equal(error.message, 'Unauthorized')
      return error.headers['www-authenticate']
    }
    assert.equal(challengeOf({ methods: ['basic'] }), 'Basic realm="system-api"')
    assert.equal(challengeOf({ methods: ['key'], realm: 'cvmd' }), 'Bearer realm="cvmd"')
    assert.equal(challengeOf({}), 'Basic realm="system-api", Bearer realm="system-api"')
    const certificate = () => undefined
    assert.equal(challengeOf({ methods: ['certificate'], certificate }), undefined)
  }))

test('keys pass as Bearer and as the password of any user but admin', () =>
  withRig(async ({ passwords, token, guard }) => {
    await passwords.set(Buffer.from(PASSWORD))
    const ci: Caller = { kind: 'key', name: 'ci', scopes: ['events:read'] }
    const both = guard()
    assert.deepEqual(both.authenticate(from(bearer(token))), ci)
    assert.deepEqual(both.authenticate(from(basic('key', token))), ci)
    assert.deepEqual(both.authenticate(from(basic('', token))), ci)
    for (const header of [
      basic('admin', token),
      basic('Admin', PASSWORD),
      basic('root', PASSWORD),
      bearer(PASSWORD),
      `${bearer(token)}x`,
      token,
      `Digest ${token}`,
      '',
    ]) {
      assert.equal(refusal(both, from(header, '198.51.100.1')).status, 401, header)
    }
    assert.equal(refusal(guard({ methods: ['basic'] }), from(bearer(token))).status, 401)
    assert.equal(refusal(guard({ methods: ['key'] }), from(basic('admin', PASSWORD))).status, 401)
  }))

test('a certificate comes first, and only where it is accepted', () =>
  withRig(({ guard }) => {
    const operator: Caller = { kind: 'certificate', name: 'CN=op', scopes: ['events:read'] }
    const certificate = () => ({ caller: operator })
    assert.equal(guard({ methods: ['certificate'], certificate }).authenticate(from()), operator)
    assert.equal(refusal(guard({ methods: ['key'], certificate }), from()).status, 401)
  }))

test('who shows a bad certificate is told why, unless something else is good', () =>
  withRig(({ guard, token }) => {
    const certificate = () => ({ refused: 'it has expired' })
    const both = guard({ methods: ['certificate', 'key'], certificate })
    const refused = refusal(both, from())
    assert.equal(refused.message, 'it has expired')
    assert.deepEqual(refused.headers, {
      'www-authenticate': 'Bearer realm="system-api"',
      connection: 'close',
    })
    assert.equal(both.authenticate(from(bearer(token))).name, 'ci')
    assert.equal(refusal(both, from(bearer('wrong'))).message, 'Unauthorized')
  }))

test('a guard without what it needs is not built', () =>
  withRig(({ guard }) => {
    assert.throws(() => guard({ methods: [] }), TypeError)
    assert.throws(() => guard({ methods: ['basic'], passwords: undefined }), TypeError)
    assert.throws(() => guard({ methods: ['key'], keys: undefined }), TypeError)
    assert.throws(() => guard({ methods: ['certificate'] }), TypeError)
    assert.throws(() => guard({ realm: 'a"b' }), TypeError)
    assert.throws(() => guard({ realm: 'a\r\nb' }), TypeError)
  }))

test('a changed password and a removed or expired key end remembered callers at once', () =>
  withRig(async ({ passwords, keys, token, guard }) => {
    await passwords.set(Buffer.from(PASSWORD))
    const both = guard()
    assert.equal(both.authenticate(from(basic('admin', PASSWORD))).name, 'admin')
    assert.equal(both.authenticate(from(bearer(token))).name, 'ci')
    await passwords.set(Buffer.from('other'))
    assert.equal(refusal(both, from(basic('admin', PASSWORD))).status, 401)
    assert.equal(both.authenticate(from(bearer(token))).name, 'ci')
    await keys.remove('ci')
    assert.equal(refusal(both, from(bearer(token))).status, 401)
  }))

test('ten failures lock a peer out; Retry-After says for how long', () =>
  withRig(async ({ passwords, clock, guard }) => {
    await passwords.set(Buffer.from(PASSWORD))
    const both = guard()
    const wrong = () => refusal(both, from(basic('admin', 'wrong')))
    for (let i = 0; i < 10; i++) assert.equal(wrong().status, 401)
    const locked = wrong()
    assert.equal(locked.status, 429)
    assert.equal(locked.code, 'TOO_MANY_FAILURES')
    assert.equal(locked.headers['retry-after'], '6')
    // Not even the right password passes now, or a guess could be told from its answer.
    assert.equal(refusal(both, from(basic('admin', PASSWORD))).status, 429)
    assert.equal(both.authenticate(from(basic('admin', PASSWORD), '198.51.100.7')).name, 'admin')
    // Nothing presented, nothing guessed.
    assert.equal(refusal(both, from()).status, 401)
    clock.now += 5001
    assert.equal(wrong().headers['retry-after'], '1')
    clock.now += 999
    assert.equal(wrong().status, 401)
    assert.equal(wrong().status, 429)
    clock.now += 60_000
    for (let i = 0; i < 10; i++) assert.equal(wrong().status, 401)
    assert.equal(wrong().status, 429)
  }))

test('a storm of failures does not lock out callers known at that address, nor tell others', () =>
  withRig(async ({ passwords, token, clock, guard }) => {
    await passwords.set(Buffer.from(PASSWORD))
    const both = guard()
    const admin = basic('admin', PASSWORD)
    assert.equal(both.authenticate(from(admin)).name, 'admin')
    const started = performance.now()
    let refused = 0
    for (let i = 0; i < 6000; i++) {
      clock.now += 10 // 100 wrong passwords a second for a minute
      if (refusal(both, from(basic('admin', `wrong ${i}`))).status === 429) refused++
      if (i % 10 === 0) assert.equal(both.authenticate(from(admin)).name, 'admin')
    }
    assert.ok(refused > 5900 - 20, `${refused} refused unseen`)
    assert.ok(performance.now() - started < 5000)
    // The same credentials from another address that is locked out are not confirmed.
    for (let i = 0; i < 10; i++) refusal(both, from(basic('admin', 'x'), '198.51.100.7'))
    assert.equal(refusal(both, from(admin, '198.51.100.7')).status, 429)
    assert.equal(refusal(both, from(bearer(token), '198.51.100.7')).status, 429)
    // Remembered for ten minutes, not for ever.
    clock.now += 600_001
    for (let i = 0; i < 10; i++) refusal(both, from(basic('admin', 'x')))
    assert.equal(refusal(both, from(admin)).status, 429)
  }))

test('tries are counted over all listeners of an address, but per Unix socket', () =>
  withRig(async ({ passwords, guard }) => {
    await passwords.set(Buffer.from(PASSWORD))
    const [one, two] = [guard(), guard({ methods: ['basic'] })]
    for (let i = 0; i < 10; i++) refusal(i % 2 ? one : two, from(basic('admin', 'x')))
    assert.equal(refusal(one, from(basic('admin', 'x'))).status, 429)
    assert.equal(refusal(two, from(basic('admin', 'x'))).status, 429)
    for (let i = 0; i < 10; i++) refusal(one, from('x', 'unix', 'unix:/a.sock'))
    assert.equal(refusal(one, from('x', 'unix', 'unix:/a.sock')).status, 429)
    assert.equal(refusal(one, from('x', 'unix', 'unix:/b.sock')).status, 401)
  }))

test('an IPv6 peer is its /64, and an IPv4 peer itself in every spelling', () => {
  assert.equal(addressGroup('203.0.113.9'), '203.0.113.9')
  assert.equal(addressGroup('::ffff:203.0.113.9'), '203.0.113.9')
  assert.equal(addressGroup('::FFFF:203.0.113.9'), '203.0.113.9')
  assert.equal(addressGroup('::1'), '0:0:0:0::/64')
  assert.equal(addressGroup('2001:db8::1'), '2001:db8:0:0::/64')
  assert.equal(addressGroup('2001:0DB8:0:0:ffff::1'), '2001:db8:0:0::/64')
  assert.equal(addressGroup('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2::/64')
  assert.equal(addressGroup('1::3:4:5:6:7:8'), '1:0:3:4::/64')
  assert.equal(addressGroup('fe80::1%eth0'), 'fe80:0:0:0::/64')
  assert.equal(addressGroup('1:2:3:4::'), '1:2:3:4::/64')
  fc.assert(
    fc.property(fc.ipV6(), (address) => {
      assert.match(addressGroup(address), /^[0-9a-f]{1,4}(:[0-9a-f]{1,4}){3}::\/64$/)
    }),
  )
})

test('the throttle remembers a bounded number of peers and forgets the oldest', () => {
  let now = 0
  const throttle = new Throttle({ burst: 2, intervalMs: 1000, maxPeers: 100 }, () => now)
  for (const peer of ['first', 'first', 'second', 'second']) throttle.fail(peer)
  for (let i = 0; i < 98; i++) throttle.fail(`peer ${i}`)
  assert.equal(throttle.wait('first'), 1)
  throttle.fail('second')
  throttle.fail('one more')
  assert.equal(throttle.size, 100)
  assert.equal(throttle.wait('first'), 0)
  assert.equal(throttle.wait('second'), 2)
  now += 2000
  assert.equal(throttle.wait('second'), 0)
})

test('never more failures than the burst and one per interval, whatever the pace', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20_000 }), { maxLength: 200 }), (pauses) => {
      let now = 0
      let tries = 0
      const throttle = new Throttle(DEFAULT_THROTTLE, () => now)
      for (const pause of pauses) {
        now += pause
        if (throttle.wait('peer') > 0) continue
        throttle.fail('peer')
        tries++
        assert.ok(tries <= 10 + now / 6000)
      }
    }),
  )
})

test('every Basic header costs the same work, whoever the user is', () =>
  withRig(async ({ passwords, keys, guard }) => {
    await passwords.set(Buffer.from(PASSWORD))
    const work: string[] = []
    const { verify } = passwords
    passwords.verify = (password) => {
      work.push('password')
      return verify.call(passwords, password)
    }
    const verifyKey = keys.verify
    keys.verify = (token) => {
      work.push('key')
      return verifyKey.call(keys, token)
    }
    const both = guard()
    for (const header of [
      basic('admin', 'wrong'),
      basic('nobody', 'wrong'),
      basic('nobody', PASSWORD),
      basic('', ''),
      basic('admin', PASSWORD),
    ]) {
      work.length = 0
      try {
        both.authenticate(from(header))
      } catch {}
      assert.deepEqual(work, ['password', 'key'], header)
    }
  }, GENEROUS))

test('the time of a refusal tells neither a right user nor a right password prefix', () =>
  withRig(async ({ passwords, guard }) => {
    await passwords.set(Buffer.from('a'.repeat(32)))
    const basicOnly = guard({ methods: ['basic'] })
    const kinds = {
      nothing: from(basic('nobody', 'b'.repeat(32))),
      user: from(basic('admin', 'b'.repeat(32))),
      prefix: from(basic('admin', `${'a'.repeat(31)}b`)),
      password: from(basic('nobody', 'a'.repeat(32))),
    }
    const samples = Object.entries(kinds).map(([kind, exchange]) => {
      return { kind, exchange, times: [] as number[] }
    })
    for (let round = 0; round < 2500; round++) {
      for (const { exchange, times } of samples) {
        const started = performance.now()
        refusal(basicOnly, exchange)
        times.push(performance.now() - started)
      }
    }
    const medians = samples.map(({ times }) => times.sort((a, b) => a - b)[1250] as number)
    // Generous: one early return is a factor of five and more, a busy machine is not.
    assert.ok(Math.max(...medians) < Math.min(...medians) * 2.5 + 0.01, medians.join(' '))
  }, GENEROUS))

test('no refusal shows what was sent', () =>
  withRig(async ({ passwords, token, clock, guard }) => {
    await passwords.set(Buffer.from(PASSWORD))
    const both = guard()
    const canaries = [PASSWORD, token, Buffer.from(`root:${PASSWORD}`).toString('base64')]
    const headers = [basic('root', PASSWORD), bearer(`${token}x`), `Digest ${token}`]
    for (let i = 0; i < 30; i++) {
      clock.now += 10
      const error = refusal(both, from(headers[i % 3]))
      const shown = [error.message, error.stack, String(error.cause), JSON.stringify(error.headers)]
      for (const canary of canaries) assert.equal(shown.join('\n').includes(canary), false)
    }
  }))

test('no header gets more than a refusal', () =>
  withRig(async ({ passwords, guard }) => {
    await passwords.set(Buffer.from(PASSWORD))
    const both = guard()
    const header = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 200 }),
      fc.base64String().map((text) => `Basic ${text}`),
      fc.string().map((text) => `Bearer cvmd_${text}`),
      fc.integer({ min: 8000, max: 20_000 }).map((length) => `Basic ${'A'.repeat(length)}`),
    )
    fc.assert(
      fc.property(header, (value) => {
        assert.equal(refusal(both, from(value)).status, 401)
      }),
    )
  }, GENEROUS))
