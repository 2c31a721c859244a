/** A KMS joins another one, and either is killed: afterwards it has no root keys, or all of them. */
import assert from 'node:assert/strict'
import { basename } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { runCvmd } from './helpers/daemon.ts'
import { killWhen } from './helpers/kill-when.ts'
import { type KmsDaemon, type KmsSite, kmsSite, namesIn, type Shown } from './helpers/kms-daemon.ts'
import { closeWays, wayTo } from './helpers/kms-way.ts'
import type { MiddleEvent } from './helpers/tls-proxy.ts'

/** What a KMS has that took over two versions, in the order it is written. */
const FILES = [
  'root-ca.key',
  'root-k256.key',
  'tmp-ca.key',
  'root-ca.crt',
  'tmp-ca.crt',
  'rpc-domain',
  'root-v1.json',
  'root-current',
]
const PENDING = 'root-keys.pending'

let site: KmsSite
let source: KmsDaemon
let port: number
/** Public parts of the root keys of both. */
let keys: readonly unknown[]
let started = 0
/** One that is not set up, started while the one before was looked at. */
let next: Promise<KmsDaemon>
/** How often there was a part of the files. */
let halves = 0

const begin = () => {
  started += 1
  return site.kms({ name: `joiner-${started}` })
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
  source = await site.kms({ name: 'source' })
  const info = await source.setUp('GetAttestationInfo')
  site.policy.allowKms(info?.json ?? {})
  await source.bootstrap()
  const rotated = await runCvmd(['kms', 'rotate', '--socket', source.socket])
  assert.equal(rotated.status, 0, rotated.stderr)
  port = await source.port()
  keys = publicKeys(await source.status())
  assert.equal(keys.length, 3)
})
after(async () => {
  closeWays()
  await next?.catch(() => undefined)
  await site.close()
})

/** The version that is used, and of each version the public keys. */
const publicKeys = ({ version, versions }: Shown): readonly unknown[] => [
  version,
  ...versions.map((one) => [one.k256_public_key, one.ca_public_key]),
]

const onboard = (kms: KmsDaemon, url: string) =>
  kms.setUp('Onboard', { source_url: url, domain: '127.0.0.1' })

/** It has no keys, and takes them over when it is asked again. */
async function assertJoins(kms: KmsDaemon): Promise<void> {
  assert.deepEqual(namesIn(kms.keys), [])
  await kms.join(`https://127.0.0.1:${port}`)
  await assertJoined(kms)
}

async function assertJoined(kms: KmsDaemon): Promise<void> {
  const status = await kms.until('serving')
  assert.deepEqual(publicKeys(status), keys)
  assert.deepEqual(namesIn(kms.keys), [...FILES].sort())
}

/** Starts a joiner again where it was killed. */
async function assertWholeOrNone({ folder, keys: home }: KmsDaemon): Promise<void> {
  const left = namesIn(home)
  const named = left.filter((name) => FILES.includes(name)).length
  if (named > 0 && named < FILES.length) halves += 1
  const kms = await site.kms({ name: basename(folder) })
  const { mode, reason } = await kms.status()
  if (mode === 'onboarding') await assertJoins(kms)
  else {
    assert.equal(mode, 'serving', `${reason} of ${left}`)
    // Nothing was made before there was all of it in one file.
    assert.ok(left.includes(PENDING) || named === FILES.length, `${left}`)
    await assertJoined(kms)
  }
  await kms.kill()
}

/** When the joiner is killed, by the names in its folder. */
const MOMENTS: readonly (readonly [string, (files: readonly string[]) => boolean])[] = [
  ['it was just asked', () => true],
  ['nothing has its name yet', (files) => files.length === 1],
  ['all is written into one file', (files) => files.includes(PENDING)],
  ...FILES.map((name) => {
    return [`${name} is written`, (files: readonly string[]) => files.includes(name)] as const
  }),
  ['it is about to answer', (files) => files.includes('rpc-domain') && !files.includes(PENDING)],
  ['it has answered', () => false],
]

/** Steps of joining, as they are seen on the way; the second connection is for the keys. */
const STEPS: readonly (readonly [string, MiddleEvent])[] = [
  ['it connects', { connection: 0, turn: 0 }],
  ['it is shown a certificate', { connection: 0, turn: 2 }],
  ['it asks for the first time', { connection: 0, turn: 3 }],
  ['it comes back', { connection: 1, turn: 0 }],
  ['it asks for the keys', { connection: 1, turn: 3 }],
]
const ANSWERED: (typeof STEPS)[number] = ['it is given the keys', { connection: 1, turn: 4 }]

/** A way to the source, on which something is done at a step. */
const way = async (step: MiddleEvent, act: () => void) => (await wayTo(port, step, act)).url

describe('a KMS that joins another, killed when', () => {
  for (const [moment, isThen] of MOMENTS) {
    test(moment, async () => {
      const kms = await fresh()
      const asked = onboard(kms, `https://127.0.0.1:${port}`)
      await killWhen(kms, () => isThen(namesIn(kms.keys)), asked)
      const answer = await asked
      if (moment === 'it has answered') assert.equal(answer?.status, 200, answer?.body)
      await assertWholeOrNone(kms)
    })
  }

  test('its files are there in part', () => {
    assert.ok(halves > 0)
  })

  for (const [name, step] of [...STEPS, ANSWERED]) {
    test(`${name}, on the way to the other`, async () => {
      const kms = await fresh()
      const url = await way(step, () => kms.signal('SIGKILL'))
      assert.equal(await onboard(kms, url), undefined)
      await kms.exited()
      assert.deepEqual(namesIn(kms.keys), [])
      // Before there is anything in the folder, one is like the other.
      if (name === ANSWERED[0]) await assertWholeOrNone(kms)
    })
  }
})

describe('a KMS that joins another, which is killed when', () => {
  for (const [name, step] of STEPS) {
    test(name, async () => {
      const kms = await fresh()
      const url = await way(step, () => source.signal('SIGKILL'))
      const answer = await onboard(kms, url)
      assert.deepEqual([answer?.status, answer?.json.code], [502, 'KMS_UNREACHABLE'], answer?.body)
      await source.kill()
      assert.equal((await kms.status()).mode, 'onboarding')
      const gone = await onboard(kms, `https://127.0.0.1:${port}`)
      assert.deepEqual([gone?.status, gone?.json.code], [502, 'KMS_UNREACHABLE'], gone?.body)
      source = await site.kms({ name: 'source', port })
      assert.deepEqual(publicKeys(await source.until('serving')), keys)
      await assertJoins(kms)
      await kms.kill()
    })
  }

  test(ANSWERED[0], async () => {
    const kms = await fresh()
    const url = await way(ANSWERED[1], () => source.signal('SIGKILL'))
    const answer = await onboard(kms, url)
    await source.kill()
    source = await site.kms({ name: 'source', port })
    await source.until('serving')
    // The keys had left it by then, or not.
    if (answer?.status !== 200) await assertJoins(kms)
    else {
      assert.equal((await kms.setUp('Finish'))?.status, 200)
      await assertJoined(kms)
    }
    await kms.kill()
  })

  test('it has given the keys: they are the same without it', async () => {
    const kms = await fresh()
    assert.equal((await onboard(kms, `https://127.0.0.1:${port}`))?.status, 200)
    await source.kill()
    assert.equal((await kms.setUp('Finish'))?.status, 200)
    await assertJoined(kms)
    await kms.kill()
  })
})
