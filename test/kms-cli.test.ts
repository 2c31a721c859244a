/** `cvmd kms`, over a Unix socket on which a KMS without a listener answers. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { addRootVersion, openRoots } from '../plugins/kms/server/roots.ts'
import { freshFolder, runCvmd, startDaemon } from './helpers/daemon.ts'
import { serveTest, type TestServer } from './helpers/http-server.ts'
import { type AdminKms, adminKms } from './plugins/kms-admin-fixtures.ts'

const ending: (() => unknown)[] = []
after(async () => {
  for (const end of ending) await end()
})

async function served(options?: { readonly bootstrapped: boolean }) {
  const kms: AdminKms = await adminKms(options)
  const server: TestServer = await serveTest([kms.plugin], {}, { unix: true })
  ending.push(() => server.stop(), kms.remove)
  assert.ok('unix' in server.target)
  const { unix } = server.target
  const run = (...args: string[]) => runCvmd(['kms', ...args, '--socket', unix])
  return { kms, run, unix }
}

describe('cvmd kms', () => {
  test('shows, prepares, uses and rotates', async () => {
    const { kms, run } = await served()
    const prepared = await run('rotate', '--prepare')
    assert.deepEqual(
      [prepared.status, prepared.stdout],
      [0, 'made root keys of version 1; version 0 is used, of 0, 1\n'],
      prepared.stderr,
    )
    const used = await run('use', '1')
    assert.deepEqual([used.status, used.stdout], [0, 'version 1 is used, of 0, 1\n'])
    kms.counts.counter.inc({ method: 'GetAppKey', outcome: 'UNAUTHORIZED', reason: 'TD_DEBUG' })
    const { status, stdout } = await run('status')
    assert.equal(status, 0)
    assert.match(
      stdout,
      /^mode {6}serving\naddress {3}127\.0\.0\.1:12001\ndomain {4}kms\.example\n/,
    )
    assert.match(
      stdout,
      /^version {3}0\n {2}k256 {4}0[23][0-9a-f]{64}\n {2}CA {6}sha256 [0-9a-f]{64}, until \d{4}-\d\d-\d\d\nversion {3}1 \(current\)\n/m,
    )
    assert.match(stdout, /^requests {2}GetAppKey UNAUTHORIZED \(TD_DEBUG\): 1\n$/m)
    const rotated = await run('rotate', '--json')
    assert.deepEqual(JSON.parse(rotated.stdout), { version: 2, current: 2, versions: [0, 1, 2] })
    const json = JSON.parse((await run('status', '--json')).stdout)
    assert.deepEqual([json.version, json.versions.length, json.mode], [2, 3, 'serving'])
    assert.deepEqual(JSON.parse((await run('use', '0', '--json')).stdout), {
      current: 0,
      versions: [0, 1, 2],
    })
  })

  test('takes versions from another KMS', async () => {
    const { kms, run } = await served()
    await addRootVersion(kms.folder)
    const other = await openRoots(kms.folder)
    assert.ok(other)
    const asked: string[] = []
    kms.source = async (url) => {
      asked.push(url)
      return other
    }
    const { status, stdout } = await run('sync', 'https://other.example:12001')
    assert.deepEqual([status, stdout], [0, 'nothing new; version 0 is used, of 0, 1\n'])
    assert.deepEqual(asked, ['https://other.example:12001'])
    const json = await run('sync', 'https://other.example', '--json')
    assert.deepEqual(JSON.parse(json.stdout), { added: [], current: 0, versions: [0, 1] })
  })

  test('says why something is not done, with 1 as exit status', async () => {
    const { run } = await served()
    for (const [args, text] of [
      [['use', '7'], 'Cannot use root version 7: there are 0'],
      [['use', 'one'], 'a version is a number from 0 on, not "one"'],
      [['use', '1.5'], 'a version is a number from 0 on, not "1.5"'],
      [['rotate', '--prepared'], 'there is no flag "--prepared"'],
      [['sync', 'https://other.example'], 'Internal error, see the daemon log'],
    ] as const) {
      const { status, stdout, stderr } = await run(...args)
      assert.deepEqual([status, stdout], [1, ''], stderr)
      assert.ok(stderr.includes(text), stderr)
    }
    const waiting = await served({ bootstrapped: false })
    const { status, stderr } = await waiting.run('rotate')
    assert.equal(status, 1)
    assert.match(stderr, /the KMS has no root keys yet \(mode onboarding\)/)
    const shown = await waiting.run('status')
    assert.match(shown.stdout, /^mode {6}onboarding \(it has no root keys yet\)\n/)
  })

  test('says that nobody answers, or that there is no KMS', async () => {
    const gone = await runCvmd(['kms', 'status', '--socket', join(freshFolder(), 'none.sock')])
    assert.equal(gone.status, 1)
    assert.match(gone.stderr, /is cvmd running\? nobody answers on /)
    const daemon = await startDaemon({
      config: '[[listen]]\nunix = "{folder}/run/cvmd.sock"\nplugins = ["eventlog"]\n',
    })
    ending.push(() => daemon.stop())
    const { status, stderr } = await runCvmd(['kms', 'status', '--socket', daemon.socket])
    assert.equal(status, 1)
    assert.match(stderr, /is role = "server" in \[plugins\.kms\]\?/)
  })

  test('has help for itself and each of its commands', async () => {
    const all = await runCvmd(['kms'])
    assert.equal(all.status, 0)
    for (const name of ['status', 'rotate', 'use', 'sync']) {
      assert.match(all.stdout, new RegExp(`\\b${name}\\b`))
      const own = await runCvmd(['kms', name, '--help'])
      assert.equal(own.status, 0)
      assert.match(own.stdout, /--socket/)
    }
    const missing = await runCvmd(['kms', 'use'])
    assert.equal(missing.status, 1)
    assert.match(missing.stderr, /VERSION/)
  })
})
