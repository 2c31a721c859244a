/** A KMS that is killed while it is set up: afterwards it has no root keys, or all of them. */
import assert from 'node:assert/strict'
import { basename } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { unixRequest } from './helpers/daemon.ts'
import { killWhen } from './helpers/kill-when.ts'
import { askUnverified } from './helpers/kms-answers.ts'
import { type KmsDaemon, type KmsSite, kmsSite, namesIn, rootFiles } from './helpers/kms-daemon.ts'

/** What a KMS has of its own making, in the order it is written. */
const FILES = [
  'root-ca.key',
  'root-k256.key',
  'tmp-ca.key',
  'root-ca.crt',
  'tmp-ca.crt',
  'rpc-domain',
  'bootstrap-info.json',
]
const PENDING = 'root-keys.pending'

let site: KmsSite
let started = 0
/** One that is not set up, started while the one before was looked at. */
let next: Promise<KmsDaemon>
/** How often there was a part of the files. */
let halves = 0

const begin = () => {
  started += 1
  return site.kms({ name: `kms-${started}` })
}

async function fresh(): Promise<KmsDaemon> {
  const kms = await next
  next = begin()
  // What fails is seen by who asks for it.
  next.catch(() => undefined)
  return kms
}

before(async () => {
  site = await kmsSite()
  next = begin()
  const info = await (await next).setUp('GetAttestationInfo')
  site.policy.allowKms(info?.json ?? {})
})
after(async () => {
  await next.catch(() => undefined)
  await site.close()
})

/** By which it is started again. */
const nameOf = ({ folder }: KmsDaemon): string => basename(folder)

/** Starts it again where it was killed, and gives the public key that it has in the end. */
async function restarted(killed: KmsDaemon): Promise<string> {
  const { keys } = killed
  const left = namesIn(keys)
  const named = left.filter((name) => FILES.includes(name)).length
  if (named > 0 && named < FILES.length) halves += 1
  const kms = await site.kms({ name: nameOf(killed) })
  const { mode, reason, versions } = await kms.status()
  let key = versions[0]?.k256_public_key
  if (mode === 'onboarding') {
    assert.deepEqual(namesIn(keys), [], `of ${left}`)
    key = (await kms.bootstrap()).k256_pubkey
  } else {
    // Nothing was made before there was all of it in one file.
    assert.ok(left.includes(PENDING) || rootFiles(kms).length === FILES.length, `${left}`)
    assert.equal(mode, 'serving', `${reason} of ${left}`)
  }
  assert.deepEqual(namesIn(keys), [...FILES].sort())
  const meta = await askUnverified(await kms.url(), '/prpc/KMS.GetMeta?json')
  assert.equal(meta.json.k256_pubkey, key)
  assert.ok(meta.json.bootstrap_info)
  await kms.kill()
  return key ?? ''
}

/** When it is killed, by the names in its folder and how often it was looked at. */
const MOMENTS: readonly (readonly [
  string,
  (files: readonly string[], looks: number) => boolean,
])[] = [
  ['it was just asked', (_files, looks) => looks === 1],
  ['it makes its keys', (_files, looks) => looks === 100],
  ['nothing has its name yet', (files) => files.length === 1],
  ['all is written into one file', (files) => files.includes(PENDING)],
  ...FILES.map((name) => {
    return [`${name} is written`, (files: readonly string[]) => files.includes(name)] as const
  }),
  ['it is about to answer', (files) => files.includes('rpc-domain') && !files.includes(PENDING)],
  ['it has answered', () => false],
]

describe('a KMS that makes root keys, killed when', () => {
  for (const [moment, isThen] of MOMENTS) {
    test(moment, async () => {
      const kms = await fresh()
      const asked = kms.setUp('Bootstrap', { domain: '127.0.0.1' })
      let looks = 0
      await killWhen(kms, () => isThen(namesIn(kms.keys), ++looks), asked)
      const answer = await asked
      const key = await restarted(kms)
      if (answer) assert.equal(answer.json.k256_pubkey, key)
      else assert.notEqual(moment, 'it has answered')
    })
  }

  test('its files are there in part', () => {
    assert.ok(halves > 0)
  })
})

describe('a KMS whose set-up is finished, killed when', () => {
  for (const [moment, looksUntil] of [
    ['it was just asked', 1],
    ['it goes on as a KMS', 100],
    ['it has answered', Number.POSITIVE_INFINITY],
  ] as const) {
    test(moment, async () => {
      const kms = await fresh()
      const made = await kms.setUp('Bootstrap', { domain: '127.0.0.1' })
      const asked = kms.setUp('Finish')
      let looks = 0
      await killWhen(kms, () => ++looks >= looksUntil, asked)
      assert.equal(await restarted(kms), made?.json.k256_pubkey)
    })
  }
})

/** When it is killed, by the names in its folder and how often it was looked at. */
const ROTATION: typeof MOMENTS = [
  ['it was just asked', (_files, looks) => looks === 1],
  ['nothing has its name yet', (files) => files.length > FILES.length],
  ['the keys are there', (files) => files.includes('root-v1.json')],
  ['the keys are used', (files) => files.includes('root-current')],
  ['it has answered', () => false],
]

describe('a KMS whose root keys are rotated, killed when', () => {
  for (const [moment, isThen] of ROTATION) {
    test(moment, async () => {
      const kms = await fresh()
      const first = await kms.bootstrap()
      const init = { method: 'POST', body: '{}' }
      const asked = unixRequest(kms.socket, '/cvmd/kms/rotate', init).catch(() => undefined)
      let looks = 0
      await killWhen(kms, () => isThen(namesIn(kms.keys), ++looks), asked)
      const answer = await asked
      const left = rootFiles(kms)
      const back = await site.kms({ name: nameOf(kms) })
      const { mode, version, versions } = await back.status()
      assert.equal(mode, 'serving')
      assert.equal(version, left.includes('root-current') ? 1 : 0)
      assert.equal(versions.length, left.includes('root-v1.json') ? 2 : 1)
      assert.equal(versions[0]?.k256_public_key, first.k256_pubkey)
      if (answer) assert.equal(version, 1)
      assert.deepEqual(namesIn(kms.keys), left)
      const meta = await askUnverified(await back.url(), '/prpc/KMS.GetMeta?json')
      assert.equal(meta.json.k256_pubkey, versions.at(version ?? 0)?.k256_public_key)
      await back.kill()
    })
  }
})
