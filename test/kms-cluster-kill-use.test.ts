/** Two KMS that are used, of which either is killed, or the machine that uses them. */
import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { unixRequest } from './helpers/daemon.ts'
import { killWhen } from './helpers/kill-when.ts'
import { answerOf } from './helpers/kms-answers.ts'
import {
  type AppDaemon,
  eventually,
  type KmsDaemon,
  type KmsSite,
  kmsSite,
  namesIn,
  rootFiles,
  type Shown,
} from './helpers/kms-daemon.ts'
import { closeWays, wayTo } from './helpers/kms-way.ts'
import type { MiddleEvent } from './helpers/tls-proxy.ts'

const SHOP = '{"name":"shop"}'

let site: KmsSite
let first: KmsDaemon
let second: KmsDaemon
/** Where they listen, also when they are back. */
let ports: { readonly first: number; readonly second: number }
/** Public parts of version 0, and the application's key. */
let root: Shown['versions'][number]
let shopKey = ''

before(async () => {
  site = await kmsSite()
  site.policy.allowApp(SHOP)
  ;[first, second] = await Promise.all([site.kms({ name: 'first' }), site.kms({ name: 'second' })])
  site.policy.allowKms((await first.setUp('GetAttestationInfo'))?.json ?? {})
  await first.bootstrap()
  await second.join(await first.url())
  ports = { first: await first.port(), second: await second.port() }
  const [version] = (await first.status()).versions
  assert.ok(version)
  root = version
  const app = await shop([urlOf(ports.first)])
  shopKey = await app.key()
  await app.kill()
})
after(async () => {
  closeWays()
  await site.close()
})

const urlOf = (port: number) => `https://127.0.0.1:${port}`

/** The application's machine, which knows the root of version 0 alone. */
const shop = (urls: readonly string[], deadlineMs?: number): Promise<AppDaemon> =>
  site.app({
    name: 'shop',
    compose: SHOP,
    urls,
    roots: [root.ca_cert],
    provider: root.ca_public_key,
    ...(deadlineMs !== undefined && { deadlineMs }),
  })

/** Starts one again where it was killed. */
async function back(name: 'first' | 'second'): Promise<Shown> {
  const killed = name === 'first' ? first : second
  await killed.kill()
  const kms = await site.kms({ name, port: ports[name] })
  if (name === 'first') first = kms
  else second = kms
  return kms.until('serving')
}

/** How keys are fetched, as it is seen on the way; the second connection is for the keys. */
const FETCHING = [
  ['it is connected to', { connection: 0, turn: 0 }],
  ['it shows its certificate', { connection: 0, turn: 2 }],
  ['it is asked for the first time', { connection: 0, turn: 3 }],
  ['it answers for the first time', { connection: 0, turn: 4 }],
  ['it is come back to', { connection: 1, turn: 0 }],
  ['it is asked about itself', { connection: 1, turn: 3 }],
  ['it is asked for the keys', { connection: 1, turn: 5 }],
  ['it gives the keys', { connection: 1, turn: 6 }],
] as const satisfies readonly (readonly [string, MiddleEvent])[]

describe('an application that fetches its keys from a KMS, which is killed when', () => {
  for (const [moment, step] of FETCHING) {
    test(`${moment}, has them from the other`, async () => {
      const way = await wayTo(ports.first, step, () => first.signal('SIGKILL'))
      const app = await shop([way.url, urlOf(ports.second)])
      assert.equal(await app.key(), shopKey)
      assert.ok(way.isDone())
      await app.kill()
      await back('first')
    })
  }

  test('there is no other, has them when it is back', async () => {
    for (const [, step] of [FETCHING[2], FETCHING[6]] as const) {
      const way = await wayTo(ports.first, step, () => first.signal('SIGKILL'))
      const app = await shop([way.url])
      await eventually('the KMS is gone', app.waiting, (why) => /KMS https:/.test(why ?? ''))
      const { status, json, headers } = await early(app)
      assert.deepEqual([status, json.code], [503, 'KMS_UNAVAILABLE'])
      assert.match(String(headers['retry-after']), /^\d+$/)
      await back('first')
      assert.equal(await app.key(), shopKey)
      await app.kill()
    }
  })
})

/** Asks for a key although there is none. */
async function early({ folder }: AppDaemon) {
  const answer = await unixRequest(`${folder}/run/dstack.sock`, '/GetKey?path=wallet')
  return { ...answerOf(answer.status, answer.body), headers: answer.headers }
}

describe('a machine that fetches its keys, killed when', () => {
  for (const [moment, step] of [FETCHING[2], FETCHING[6], FETCHING[7]] as const) {
    test(`the KMS sees that ${moment}, has them with the next start`, async () => {
      // It stands still there, until the machine is known to have started.
      const way = await wayTo(ports.first, step, () => first.signal('SIGSTOP'))
      const app = await shop([way.url])
      await eventually('it got so far', async () => way.isDone(), Boolean)
      await app.kill()
      first.signal('SIGCONT')
      const again = await shop([urlOf(ports.first)])
      assert.equal(await again.key(), shopKey)
      await again.kill()
    })
  }
})

describe('a certificate is signed', () => {
  const issue = (app: AppDaemon) => app.ask('/GetTlsKey?subject=shop.example&usage_ra_tls=true')

  test('by the other, when the first is killed as it is asked or answers', async () => {
    // Keys were fetched before that: GetMeta and GetAppKey.
    for (const turn of [7, 8]) {
      const step = { connection: 1, turn }
      const way = await wayTo(ports.first, step, () => first.signal('SIGKILL'))
      const app = await shop([way.url, urlOf(ports.second)])
      assert.equal(await app.key(), shopKey)
      const { status, json, body } = await issue(app)
      assert.equal(status, 200, body)
      assert.equal(way.isDone(), true)
      assert.match(String(json.certificate_chain), /BEGIN CERTIFICATE/)
      await app.kill()
      await back('first')
    }
  })

  test('again when the only one is back; keys need none meanwhile', async () => {
    const app = await shop([urlOf(ports.first)])
    assert.equal(await app.key(), shopKey)
    assert.equal((await issue(app)).status, 200)
    await first.kill()
    const { status, json } = await issue(app)
    assert.deepEqual([status, json.code], [503, 'KMS_UNAVAILABLE'])
    assert.equal(await app.key(), shopKey)
    await back('first')
    // With a key that it has not seen yet.
    assert.equal((await issue(app)).status, 200)
    await app.kill()
  })
})

/** Public keys of all versions. */
const publicKeys = ({ versions }: Shown) =>
  versions.map((one) => [one.k256_public_key, one.ca_public_key])

/** Undefined when it was killed before an answer. */
async function change(kms: KmsDaemon, what: 'rotate' | 'sync' | 'use', body: object) {
  const init = { method: 'POST', body: JSON.stringify(body) }
  const asked = unixRequest(kms.socket, `/cvmd/kms/${what}`, init)
  const answer = await asked.catch(() => undefined)
  return answer && answerOf(answer.status, answer.body)
}

describe('a KMS that takes a new version from another', () => {
  /** What the first has. */
  let newer: readonly unknown[]
  before(async () => {
    const rotated = await change(first, 'rotate', { prepare: true })
    assert.equal(rotated?.status, 200, rotated?.body)
    newer = publicKeys(await first.status())
    assert.equal(newer.length, 2)
  })

  /** Takes it in the end, whatever happened before; and then it has no version but the first again. */
  async function assertTakes(): Promise<void> {
    const url = urlOf(ports.first)
    const taken = await change(second, 'sync', { source_url: url })
    assert.equal(taken?.status, 200, taken?.body)
    assert.deepEqual(publicKeys(await second.status()), newer)
    assert.deepEqual(
      rootFiles(second).filter((name) => /v1/.test(name)),
      ['root-v1.json'],
    )
  }

  async function withoutIt(): Promise<void> {
    await second.kill()
    rmSync(`${second.keys}/root-v1.json`, { force: true })
    assert.equal(publicKeys(await back('second')).length, 1)
  }

  const MOMENTS: readonly (readonly [
    string,
    (files: readonly string[], looks: number) => boolean,
  ])[] = [
    ['it was just asked', (_files, looks) => looks === 1],
    ['it asks', (_files, looks) => looks === 100],
    ['the file has no name yet', (files) => files.some((name) => /^\..*root-v1/.test(name))],
    ['the file is there', (files) => files.includes('root-v1.json')],
    ['it has answered', () => false],
  ]
  for (const [moment, isThen] of MOMENTS) {
    test(`is killed when ${moment}: it has it or not`, async () => {
      await withoutIt()
      const asked = change(second, 'sync', { source_url: urlOf(ports.first) })
      let looks = 0
      await killWhen(second, () => isThen(namesIn(second.keys), ++looks), asked)
      const answer = await asked
      const has = rootFiles(second).includes('root-v1.json')
      if (answer) assert.ok(has)
      const found = publicKeys(await back('second'))
      assert.deepEqual(found, newer.slice(0, has ? 2 : 1))
      assert.ok(namesIn(second.keys).every((name) => !name.startsWith('.')))
      await assertTakes()
    })
  }

  const STEPS = [FETCHING[2], FETCHING[4]] as const
  for (const [moment, step] of [
    ...STEPS,
    ['it gives the keys', { connection: 1, turn: 4 }],
  ] as const) {
    test(`has the keys it had, when the other is killed as ${moment}`, async () => {
      await withoutIt()
      const way = await wayTo(ports.first, step, () => first.signal('SIGKILL'))
      const answer = await change(second, 'sync', { source_url: way.url })
      assert.ok(way.isDone())
      const app = await shop([urlOf(ports.second)])
      assert.equal(await app.key(), shopKey)
      await app.kill()
      assert.equal((await second.status()).mode, 'serving')
      // What was on its way already may have come.
      if (answer?.status !== 200) {
        assert.deepEqual(
          [answer?.status, answer?.json.code],
          [502, 'KMS_UNREACHABLE'],
          answer?.body,
        )
        assert.equal(publicKeys(await second.status()).length, 1)
      }
      assert.deepEqual(publicKeys(await back('first')), newer)
      await assertTakes()
    })
  }

  test('gives the application the keys it had, whichever version either of them uses', async () => {
    const running = await shop([urlOf(ports.first), urlOf(ports.second)])
    assert.equal(await running.key(), shopKey)
    assert.equal((await change(first, 'use', { version: 1 }))?.status, 200)
    for (const name of ['second', 'first'] as const) {
      const other = name === 'first' ? second : first
      await (name === 'first' ? first : second).kill()
      const signed = await running.ask('/GetTlsKey?subject=shop.example')
      assert.equal(signed.status, 200, signed.body)
      const app = await site.app({
        name: `shop-${name}`,
        compose: SHOP,
        urls: [await other.url()],
        roots: [root.ca_cert],
        provider: root.ca_public_key,
      })
      assert.equal(await app.key(), shopKey)
      await app.kill()
      const { version } = await back(name)
      assert.equal(version, name === 'first' ? 1 : 0)
    }
    await running.kill()
  })
})
