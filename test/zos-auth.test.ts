import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as sr25519 from '@scure/sr25519'
import fc from 'fast-check'
import {
  type Authenticator,
  type AuthenticatorOptions,
  createAuthenticator,
} from '../plugins/zos/auth/authenticator.ts'
import { readChallenge } from '../plugins/zos/auth/challenge.ts'
import { readToken } from '../plugins/zos/auth/token.ts'
import { RegistryError, type Twin } from '../plugins/zos/registry/registry.ts'
import { ZosError } from '../plugins/zos/zos-error.ts'
import {
  challenge,
  ed25519Key,
  ed25519Signer,
  publicBytes,
  request,
  token,
} from './helpers/zos-auth.ts'

const NOW = 1_700_000_000
const ED_KEY = ed25519Key(1)
const ED = ed25519Signer(ED_KEY)
const STRANGER = ed25519Signer(ed25519Key(2))
const SR_KEY = sr25519.secretFromSeed(new Uint8Array(32).fill(3))
const SR = (message: Uint8Array) => sr25519.sign(SR_KEY, message)

const twin = (id: number, keyType: Twin['keyType'], publicKey: Uint8Array): Twin => ({
  id,
  keyType,
  publicKey,
  relays: [],
  pk: undefined,
})

/** 42 and 43 say what their keys are, 52 and 53 do not, as on the chain. */
const TWINS = new Map(
  [
    twin(42, 'ed25519', publicBytes(ED_KEY)),
    twin(43, 'sr25519', sr25519.getPublicKey(SR_KEY)),
    twin(52, undefined, publicBytes(ED_KEY)),
    twin(53, undefined, sr25519.getPublicKey(SR_KEY)),
  ].map((one) => [one.id, one]),
)

interface Rig {
  readonly auth: Authenticator
  /** In seconds. */
  readonly clock: { wall: number; monotonic: number }
  lookups: number
  /** Lets time pass. */
  pass(seconds: number): void
}

function rig(options: Partial<AuthenticatorOptions> = {}): Rig {
  const clock = { wall: NOW - 100, monotonic: 0 }
  const self: Rig = {
    clock,
    lookups: 0,
    pass(seconds) {
      clock.wall += seconds
      clock.monotonic += seconds
    },
    auth: createAuthenticator({
      registry: {
        twin: async (id) => {
          self.lookups++
          return TWINS.get(id)
        },
      },
      trustTwinHeader: false,
      clocks: { wall: () => clock.wall * 1000, monotonic: () => clock.monotonic * 1000 },
      ...options,
    }),
  }
  self.pass(100)
  return self
}

const CLAIMS = { iss: '42', aud: 'zos', exp: NOW + 60 }

async function refused(work: Promise<unknown>, message: RegExp, kind = 'authentication') {
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof ZosError, String(error))
    assert.equal(error.kind, kind)
    assert.match(error.message, message)
    return true
  })
}

test('a request without credentials, or with those of the daemon, is nobody', async () => {
  const { auth } = rig()
  assert.equal(await auth.authenticate(request({})), undefined)
  for (const authorization of ['Basic YWRtaW46eA==', 'Bearer cvmd_0a1b2c3d4e5f_x', 'Digest a']) {
    assert.equal(await auth.authenticate(request({ authorization })), undefined)
  }
})

test('a token names its twin, where the registry says what the key is and where not', async () => {
  const { auth } = rig()
  const by = (claims: object, header?: object) =>
    auth.authenticate(request({ authorization: token(ED, claims, header) }))
  assert.equal(await by(CLAIMS), 42)
  assert.equal(await by({ ...CLAIMS, iss: '52' }), 52)
  assert.equal(await by(CLAIMS, { alg: 'EdDSA' }), 42)
  assert.equal(await by({ ...CLAIMS, aud: ['other', 'zos'] }), 42)
  assert.equal(await by({ ...CLAIMS, exp: NOW + 120, nbf: NOW + 10, iat: NOW + 10 }), 42)
  assert.equal(await by({ ...CLAIMS, exp: NOW - 9 }), 42)
  // More than once: a token is good until it expires.
  const authorization = token(ED, CLAIMS).replace('Bearer', 'bearer')
  for (const once of [true, true]) {
    assert.equal(await auth.authenticate(request({ authorization }, { once })), 42)
  }
})

test('a token that is wrong is refused with what is wrong', async () => {
  const { auth } = rig()
  const cases: readonly (readonly [string, RegExp])[] = [
    [token(ED, CLAIMS, { alg: 'none' }), /^invalid token: its alg is "none", not "EdDSA"$/],
    [token(ED, CLAIMS, { alg: 'HS256' }), /alg is "HS256"/],
    [token(ED, CLAIMS, {}), /alg is nothing/],
    [token(ED, CLAIMS, { alg: 'EdDSA', crit: ['b64'], b64: false }), /extensions \(crit\)/],
    [token(ED, CLAIMS, { alg: 'EdDSA', crit: [] }), /extensions \(crit\)/],
    [token(ED, { ...CLAIMS, iss: 42 }), /its iss is 42, not the id of a twin as a text/],
    [token(ED, { ...CLAIMS, iss: '4294967296' }), /its iss is "4294967296"/],
    [token(ED, { ...CLAIMS, iss: '0' }), /its iss is "0"/],
    [token(ED, { ...CLAIMS, aud: 'ZOS' }), /its aud is "ZOS", not "zos"/],
    [token(ED, { ...CLAIMS, aud: ['x'] }), /its aud is \["x"\]/],
    [token(ED, { ...CLAIMS, aud: undefined }), /its aud is nothing/],
    [token(ED, { ...CLAIMS, exp: undefined }), /it has no exp/],
    [token(ED, { ...CLAIMS, exp: String(NOW) }), /its exp is "1700000000", not a number/],
    [token(ED, { ...CLAIMS, exp: NOW - 10 }), /it expired 10 s ago/],
    [token(ED, { ...CLAIMS, exp: NOW + 121 }), /^the expiration date should not be more than 2 m/],
    [token(ED, { ...CLAIMS, nbf: NOW + 11 }), /it is good only in 11 s/],
    [token(ED, { ...CLAIMS, iat: NOW + 11 }), /it was issued 11 s ahead of now/],
    [token(STRANGER, CLAIMS), /^the signature is not that of twin 42$/],
    [token(ED, { ...CLAIMS, iss: '44' }), /^twin 44 is not in the registry$/],
    [token(ED, { ...CLAIMS, iss: '43' }), /twin 43 has an sr25519 key, .*: use X-Auth/],
    ['Bearer ..', /not three parts in base64url/],
    ['Bearer a.b.c=', /not three parts in base64url/],
    ['Bearer e30.bm8.AA', /alg is nothing/],
    ['Bearer W10.e30.AA', /its header is no JSON object/],
    [`Bearer a.${'b'.repeat(9000)}.c`, /over 8192 characters/],
    [token(ED, CLAIMS).replace(/\.[^.]*$/, '.AAAA'), /the signature is not that of twin 42/],
  ]
  for (const [authorization, message] of cases) {
    // A fresh peer each: too many failures are another test's.
    const peer = authorization.slice(-20)
    await refused(auth.authenticate(request({ authorization }, { peer })), message)
  }
})

test('a bad credential is not made good by another', async () => {
  const { auth } = rig()
  const headers = { 'x-auth': challenge(ED, NOW, 42), 'x-zos-twin': '42' }
  await refused(
    auth.authenticate(request({ ...headers, authorization: token(STRANGER, CLAIMS) })),
    /the signature is not that/,
  )
  const bad = { ...headers, 'x-auth': 'x' }
  await refused(auth.authenticate(request(bad, { unixSocket: true })), /^invalid X-Auth/)
})

test('a signed challenge names its twin, with either kind of key', async () => {
  const { auth } = rig()
  const by = (header: string) => auth.authenticate(request({ 'x-auth': header }))
  assert.equal(await by(challenge(ED, NOW, 42)), 42)
  assert.equal(await by(challenge(SR, NOW, 43)), 43)
  assert.equal(await by(challenge(ED, NOW, 52)), 52)
  assert.equal(await by(challenge(SR, NOW, 53)), 53)
  assert.equal(await by(challenge(ED, NOW - 60, 42)), 42)
  assert.equal(await by(challenge(ED, NOW + 10, 42)), 42)
})

test('a challenge that is wrong is refused with what is wrong', async () => {
  const { auth } = rig()
  const good = challenge(ED, NOW, 42)
  const cases: readonly (readonly [string, RegExp])[] = [
    [challenge(ED, NOW - 61, 42), /^invalid X-Auth: it was signed 61 s ago, at most 60 s are/],
    [challenge(ED, NOW + 11, 42), /^invalid X-Auth: it was signed 11 s ahead of this machine/],
    [challenge(STRANGER, NOW, 42), /^the signature is not that of twin 42$/],
    [challenge(SR, NOW, 42), /the signature is not that of twin 42/],
    [challenge(ED, NOW, 43), /the signature is not that of twin 43/],
    [challenge(ED, NOW, 53), /the signature is not that of twin 53/],
    [challenge(ED, NOW, 44), /^twin 44 is not in the registry$/],
    [challenge(ED, `-${NOW}`, 42), /"-1700000000:42" is not "<unix time>:<twin id>"/],
    [challenge(ED, NOW, '42:42'), /is not "<unix time>:<twin id>"/],
    [challenge(ED, NOW, '4294967296'), /is not "<unix time>:<twin id>"/],
    [`${good}:x`, /not two parts in base64/],
    [good.replace(':', ''), /not two parts in base64/],
    ['', /not two parts in base64/],
    [':', /not two parts in base64/],
    [good.replace('=', ''), /not two parts in base64/],
    [`${good.split(':')[0]}:AAAA`, /its signature has 3 bytes, not 64/],
    ['x'.repeat(600), /over 512 characters/],
  ]
  for (const [header, message] of cases) {
    const peer = header.slice(-20)
    await refused(auth.authenticate(request({ 'x-auth': header }, { peer })), message)
  }
})

test('a challenge changes something once; reading is free', async () => {
  const { auth, pass } = rig()
  const header = challenge(SR, NOW, 43)
  const change = (text: string) => auth.authenticate(request({ 'x-auth': text }, { once: true }))
  const read = (text: string) => auth.authenticate(request({ 'x-auth': text }))
  assert.equal(await read(header), 43)
  assert.equal(await change(header), 43)
  assert.equal(await read(header), 43)
  await refused(change(header), /^X-Auth must be signed anew for each change: it was used before$/)
  // Another signature of the same second is another call.
  assert.equal(await change(challenge(SR, NOW, 43)), 43)
  assert.equal(await change(challenge(ED, NOW, 42)), 42)
  await refused(change(challenge(ED, NOW, 42)), /it was used before/)
  pass(60)
  await refused(change(header), /it was used before/)
  pass(1)
  await refused(change(header), /signed 61 s ago/)
})

test('what was signed before the start may have been used before it, for a minute', async () => {
  const { auth, pass } = createFresh()
  const change = (header: string) =>
    auth.authenticate(request({ 'x-auth': header }, { once: true }))
  await refused(change(challenge(ED, NOW - 1, 42)), /used before the daemon started/)
  assert.equal(await change(challenge(ED, NOW, 42)), 42)
  pass(69)
  assert.equal(await change(challenge(ED, NOW + 9, 42)), 42)
  await refused(change(challenge(ED, NOW - 1, 42)), /signed 70 s ago/)
})

/** One that starts now. */
function createFresh() {
  const clock = { wall: NOW, monotonic: 5 }
  const auth = createAuthenticator({
    registry: { twin: async (id) => TWINS.get(id) },
    trustTwinHeader: false,
    clocks: { wall: () => clock.wall * 1000, monotonic: () => clock.monotonic * 1000 },
  })
  const pass = (seconds: number) => {
    clock.wall += seconds
    clock.monotonic += seconds
  }
  return { auth, clock, pass }
}

test('a clock that jumps makes no used challenge good again, and no fresh one bad', async () => {
  for (const jump of [3600, -3600]) {
    const { auth, clock, pass } = rig()
    const change = (header: string) =>
      auth.authenticate(request({ 'x-auth': header }, { once: true }))
    const used = challenge(ED, NOW, 42)
    const other = challenge(SR, NOW - 5, 43)
    await change(used)
    await change(other)
    clock.wall += jump
    await refused(change(used), jump > 0 ? /signed 3600 s ago/ : /3600 s ahead/)
    // Somebody whose clock jumped too, which makes the others be forgotten.
    assert.equal(await change(challenge(ED, NOW + jump, 52)), 52)
    pass(5)
    clock.wall -= jump
    await refused(change(used), /used before/)
    await refused(change(other), /used before/)
    assert.equal(await change(challenge(ED, NOW + 5, 42)), 42)
    const authorization = token(ED, { ...CLAIMS, exp: NOW + 60 })
    assert.equal(await auth.authenticate(request({ authorization })), 42)
  }
})

test('a clock that was wrong at the start and is set right stops nobody for long', async () => {
  const { auth, clock, pass } = createFresh()
  clock.wall -= 3600
  const change = (at: number) =>
    auth.authenticate(request({ 'x-auth': challenge(ED, at, 42) }, { once: true }))
  await refused(change(NOW - 3600), /used before the daemon started/)
  pass(70)
  assert.equal(await change(NOW - 3600 + 70), 42)
})

test('what is remembered is bounded for each twin', async () => {
  const { auth } = rig()
  const change = (signer: typeof SR, id: number) =>
    auth.authenticate(request({ 'x-auth': challenge(signer, NOW, id) }, { once: true }))
  for (let count = 0; count < 128; count++) assert.equal(await change(SR, 43), 43)
  await refused(change(SR, 43), /^twin 43 changed something 128 times/, 'unavailable')
  assert.equal(await change(ED, 42), 42)
})

test('X-Zos-Twin is taken over a Unix socket, or where it is trusted', async () => {
  const by = (auth: Authenticator, name: string, unixSocket: boolean) =>
    auth.authenticate(request({ 'x-zos-twin': name }, { unixSocket }))
  const { auth } = rig()
  assert.equal(await by(auth, '42', true), 42)
  assert.equal(await by(auth, '4294967295', true), 4_294_967_295)
  await refused(by(auth, '42', false), /^X-Zos-Twin is taken over a Unix socket only/)
  const trusting = rig({ trustTwinHeader: true }).auth
  assert.equal(await by(trusting, '42', false), 42)
  for (const name of ['', '0', '-1', '4294967296', '42 ', '0x2a', 'forty-two']) {
    await refused(by(auth, name, true), /^invalid X-Zos-Twin: ".*" is not the id of a twin$/)
  }
})

test('a peer that fails too often has to wait, others do not', async () => {
  const { auth, pass } = rig()
  const by = (header: string, peer: string) =>
    auth.authenticate(request({ 'x-auth': header }, { peer }))
  for (let count = 0; count < 10; count++) {
    await refused(by(challenge(STRANGER, NOW, 42), 'bad'), /the signature is not that/)
  }
  const wait = /^too many failed authentications, try again in \d+ s$/
  await refused(by(challenge(ED, NOW, 42), 'bad'), wait, 'unavailable')
  assert.equal(await by(challenge(ED, NOW, 42), 'good'), 42)
  pass(7)
  assert.equal(await by(challenge(ED, NOW, 42), 'bad'), 42)
})

test('failures that are under way at once count before more is asked', async () => {
  const gate = deferred()
  const { auth } = rig({
    registry: {
      twin: async () => {
        await gate.promise
        return undefined
      },
    },
  })
  const header = challenge(ED, NOW, 99)
  const all = Array.from({ length: 50 }, () => auth.authenticate(request({ 'x-auth': header })))
  gate.resolve()
  const results = await Promise.allSettled(all)
  const texts = results.map((one) => (one.status === 'rejected' ? one.reason.message : ''))
  assert.equal(texts.filter((text) => text === 'twin 99 is not in the registry').length, 10)
})

function deferred() {
  let resolve: () => void = () => undefined
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

test('malformed and expired credentials cost no lookup and count for nothing', async () => {
  const self = rig()
  for (let count = 0; count < 30; count++) {
    const old = challenge(ED, NOW - 100, 42)
    await refused(self.auth.authenticate(request({ 'x-auth': old })), /signed 100 s ago/)
  }
  assert.equal(self.lookups, 0)
})

test('a registry that cannot be asked is not the fault of the caller', async () => {
  const { auth } = rig({
    registry: {
      twin: async () => {
        throw new RegistryError('REGISTRY_UNREACHABLE', 'Cannot ask the chain: gone')
      },
    },
  })
  await refused(
    auth.authenticate(request({ 'x-auth': challenge(ED, NOW, 42) })),
    /^failed to get public key for twin '42': Cannot ask the chain: gone$/,
    'unavailable',
  )
})

test('any header is read or refused with a typed error', () => {
  const good = [token(ED, CLAIMS), challenge(ED, NOW, 42)]
  const text = fc.oneof(fc.string(), fc.base64String(), fc.constantFrom(...good))
  for (const read of [readToken, readChallenge]) {
    fc.assert(
      fc.property(fc.array(text, { maxLength: 4 }), fc.constantFrom('.', ':', ''), (parts, dot) => {
        for (const header of [parts.join(dot), `Bearer ${parts.join(dot)}`]) {
          try {
            read(header)
          } catch (error) {
            assert.ok(error instanceof ZosError)
            assert.equal(error.kind, 'authentication')
          }
        }
      }),
    )
  }
})

test('no bit of a token or a challenge can be changed', async () => {
  const { auth } = rig({ throttle: { burst: 1e9, intervalMs: 1, maxPeers: 10 } })
  const flip = (text: string, at: number) => {
    const next = text[at] === 'A' ? 'B' : 'A'
    return `${text.slice(0, at)}${next}${text.slice(at + 1)}`
  }
  for (const [name, header] of [
    ['authorization', token(ED, CLAIMS)],
    ['x-auth', challenge(ED, NOW, 42)],
  ] as const) {
    // The last characters hold bits that are not part of any byte.
    const first = name === 'authorization' ? 'Bearer '.length : 0
    for (let at = first; at < header.length - 4; at++) {
      const changed = flip(header, at)
      const work = auth.authenticate(request({ [name]: changed }))
      if (name === 'authorization' && header[at] === '.') continue
      await assert.rejects(work, { name: 'ZosError', kind: 'authentication' }, changed)
    }
  }
})
