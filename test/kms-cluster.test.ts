/** Two KMS with one set of root keys, and an application that has its keys from either. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { runCvmd } from './helpers/daemon.ts'
import { askUnverified, shownCertificate } from './helpers/kms-answers.ts'
import {
  type AppMachine,
  type KmsDaemon,
  type KmsSite,
  kmsSite,
  type Shown,
} from './helpers/kms-daemon.ts'

const SHOP = '{"name":"shop"}'

describe('a cluster of two KMS', () => {
  let site: KmsSite
  let first: KmsDaemon
  let second: KmsDaemon
  /** Public parts of the root keys, and the application's key. */
  let versions: Shown['versions'] = []
  let shopKey = ''
  before(async () => {
    site = await kmsSite()
    site.policy.allowApp(SHOP)
    ;[first, second] = await Promise.all([
      site.kms({ name: 'first' }),
      site.kms({ name: 'second' }),
    ])
  })
  after(() => site.close())

  /** Starts the application's machine, and forgets the one before. */
  async function keyFrom(urls: readonly string[], more: Partial<AppMachine> = {}): Promise<string> {
    const app = await site.app({
      name: 'shop',
      compose: SHOP,
      urls,
      roots: versions.map(({ ca_cert }) => ca_cert),
      provider:
        versions.find(({ version }) => version === (more.rootVersion ?? 0))?.ca_public_key ?? '',
      ...more,
    })
    try {
      return await app.key()
    } finally {
      await app.kill()
    }
  }

  test('begins with one that is set up by the two lines of the seed API', async () => {
    const info = await first.setUp('GetAttestationInfo')
    assert.equal(info?.status, 200, info?.body)
    site.policy.allowKms(info.json)
    const { address } = await first.status()
    const token = ['-H', `Authorization: ${first.authorization}`]
    const curl = async (...args: string[]) =>
      (await promisify(execFile)('curl', ['-s', '--max-time', '20', ...token, ...args])).stdout
    const made = await curl(
      `http://${address}/prpc/Onboard.Bootstrap?json`,
      ...['-d', '{"domain": "127.0.0.1"}'],
    )
    const { publicKey, attestation, measurement } = JSON.parse(made)
    assert.match(attestation, /^[0-9a-f]+$/)
    assert.equal(measurement, info.json.mr_aggregated)
    const { pid } = first.child
    assert.equal(await curl(`http://${address}/finish`), 'OK')
    const serving = await first.until('serving')
    versions = serving.versions
    assert.deepEqual([versions[0]?.k256_public_key, serving.domain], [publicKey, '127.0.0.1'])
    // The process that was set up is the one that serves.
    assert.equal(first.child.pid, pid)
    const meta = await askUnverified(await first.url(), '/prpc/KMS.GetMeta?json')
    assert.deepEqual([meta.status, meta.json.k256_pubkey], [200, publicKey])
    assert.deepEqual(readdirSync(`${first.folder}/state/kms`), ['root-keys'])
  })

  test('has a second, which joins the first and is given the same keys', async () => {
    const joined = await second.join(await first.url(), 'localhost')
    const theirs = await second.status()
    // The certificate, too: whoever pinned it believes both.
    assert.deepEqual(theirs.versions, versions)
    assert.equal(joined.k256_pubkey, versions[0]?.k256_public_key)
    assert.equal(theirs.domain, 'localhost')
    const keys = [await keyFrom([await first.url()]), await keyFrom([await second.url()])]
    assert.match(keys[0] ?? '', /^[0-9a-f]{64}$/)
    assert.equal(keys[1], keys[0])
    shopKey = keys[0] ?? ''
  })

  test('gives the same keys when either was killed, and when it is back', async () => {
    const urls = [await first.url(), await second.url()]
    for (const [name, killed] of [
      ['first', first],
      ['second', second],
    ] as const) {
      const port = await killed.port()
      const certificate = await shownCertificate(port)
      await killed.kill()
      assert.equal(await keyFrom(urls), shopKey)
      const back = await site.kms({ name, port })
      if (name === 'first') first = back
      else second = back
      assert.deepEqual((await back.until('serving')).versions, versions)
      // With fresh evidence: what the machine measured before it was killed counts no more.
      assert.notDeepEqual(await shownCertificate(port), certificate)
      assert.equal(await keyFrom([await back.url()]), shopKey)
    }
  })

  test('is found by an application that runs while one is killed and the other not', async () => {
    const [lost, kept] = [await first.port(), await second.url()]
    const app = await site.app({
      name: 'shop',
      compose: SHOP,
      urls: [await first.url(), kept],
      roots: versions.map(({ ca_cert }) => ca_cert),
      provider: versions[0]?.ca_public_key ?? '',
    })
    assert.equal(await app.key(), shopKey)
    await first.kill()
    // The certificate is signed by a KMS, the one that is left.
    const { status, body } = await app.ask('/GetTlsKey?subject=shop.example')
    assert.equal(status, 200, body)
    assert.equal(await app.key(), shopKey)
    await app.kill()
    first = await site.kms({ name: 'first', port: lost })
    await first.until('serving')
  })

  test('is rotated on one, and follows on the other', async () => {
    const cli = async (kms: KmsDaemon, ...args: string[]) => {
      const done = await runCvmd(['kms', ...args, '--json', '--socket', kms.socket])
      assert.equal(done.status, 0, done.stderr)
      return JSON.parse(done.stdout)
    }
    assert.deepEqual(await cli(first, 'rotate'), { version: 1, current: 1, versions: [0, 1] })
    const url = await first.url()
    const taken = { added: [1], current: 0, versions: [0, 1] }
    assert.deepEqual(await cli(second, 'sync', url), taken)
    assert.deepEqual(await cli(second, 'sync', url), { ...taken, added: [] })
    assert.deepEqual(await cli(second, 'use', '1'), { current: 1, versions: [0, 1] })
    versions = (await first.status()).versions
    const publicKeys = (of: Shown['versions']) =>
      of.map((one) => [one.k256_public_key, one.ca_public_key])
    assert.deepEqual(publicKeys((await second.status()).versions), publicKeys(versions))
    assert.equal(versions.length, 2)

    const urls = [await first.url(), await second.url()]
    const fresh = await Promise.all(
      urls.map((one, i) => keyFrom([one], { name: `new${i}`, rootVersion: 1 })),
    )
    assert.match(fresh[0] ?? '', /^[0-9a-f]{64}$/)
    assert.equal(fresh[1], fresh[0])
    assert.notEqual(fresh[0], shopKey)
    const old = await Promise.all(
      urls.map((one, i) => keyFrom([one], { name: `old${i}`, rootVersion: 0 })),
    )
    assert.deepEqual(old, [shopKey, shopKey])
  })

  test('keeps all versions when both are killed at once', async () => {
    const ports = [await first.port(), await second.port()]
    await Promise.all([first.kill(), second.kill()])
    ;[first, second] = await Promise.all([
      site.kms({ name: 'first', port: ports[0] }),
      site.kms({ name: 'second', port: ports[1] }),
    ])
    for (const kms of [first, second]) {
      const serving = await kms.until('serving')
      assert.equal(serving.version, 1)
      assert.deepEqual(
        serving.versions.map((one) => one.k256_public_key),
        versions.map((one) => one.k256_public_key),
      )
    }
    assert.equal(await keyFrom([await second.url()], { rootVersion: 0 }), shopKey)
  })
})
