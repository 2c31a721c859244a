import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { formatCollateral, parseCollateral } from '../src/attest/tdx/collateral.ts'
import { certificatePem } from '../src/x509/issue.ts'
import { freshFolder, runCvmd } from './helpers/daemon.ts'
import { nitroSample, SAMPLE_TIME, tdxSample } from './helpers/evidence.ts'
import { answersOf, standInPccs } from './plugins/kms-trust-fixtures.ts'

const folder = freshFolder()
const tdx = tdxSample()
const answers = answersOf(JSON.parse(tdx.collateral))

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

const quote = tdx.quote(new Uint8Array(64).fill(9))
const quoteFile = file('quote.bin', quote)
const root = ['--root', file('root.pem', certificatePem(tdx.root))]
const at = ['--at', new Date(SAMPLE_TIME).toISOString()]

test('collateral comes from a service, and is kept for another time', async (t) => {
  const pccs = await standInPccs(t, answers)
  const saved = join(folder, 'saved.json')
  const args = ['verify', quoteFile, ...root, ...at]
  const online = await runCvmd([...args, '--pccs', pccs.url, '--save-collateral', saved])
  assert.deepEqual([online.status, online.stderr], [0, ''])
  assert.match(online.stdout, /^ok +revocation/m)
  assert.match(online.stdout, /\naccepted\n$/)
  assert.equal(pccs.seen.length, 4)
  const offline = await runCvmd([...args, '--collateral', saved])
  assert.equal(offline.stdout, online.stdout)
  assert.equal(pccs.seen.length, 4)
})

test('what a service says is verified like a file, and its faults end with 2', async (t) => {
  const pccs = await standInPccs(t, answers)
  const saved = join(folder, 'never.json')
  const run = (...args: string[]) =>
    runCvmd(['verify', ...args, '--pccs', pccs.url, '--save-collateral', saved])
  // Collateral of a month ago, and of another maker.
  const late = await run(
    quoteFile,
    ...root,
    '--at',
    new Date(SAMPLE_TIME + 40 * 864e5).toISOString(),
  )
  assert.equal(late.status, 2)
  assert.match(late.stderr, /Cannot use collateral of http:.*ended at/)
  pccs.answers = answersOf(JSON.parse(tdxSample().collateral))
  const foreign = await run(quoteFile, ...root, ...at)
  assert.equal(foreign.status, 2)
  pccs.odd = { tcb: (response) => response.writeHead(404).end() }
  assert.match((await run(quoteFile, ...root, ...at)).stderr, /status 404/)
  assert.ok(!existsSync(saved))
  // About a platform that nobody vouches for, no service is asked.
  const asked = pccs.seen.length
  const stranger = await run(quoteFile, ...at)
  assert.equal(stranger.status, 1)
  assert.match(stranger.stdout, /ROOT_UNKNOWN/)
  assert.equal(pccs.seen.length, asked)
})

test('flags that do not fit are named', async () => {
  const collateral = file('collateral.json', tdx.collateral)
  const document = file('document.bin', nitroSample().document())
  const pccs = ['--pccs', 'http://127.0.0.1:1']
  const rows: [args: string[], complaint: RegExp][] = [
    [[quoteFile, ...pccs, '--collateral', collateral], /exclude each other/],
    [[quoteFile, '--save-collateral', 'x'], /wants --pccs/],
    [[document, ...pccs], /needs no --pccs/],
    [[quoteFile, '--pccs', 'pccs.example'], /wants a URL/],
    [[quoteFile, '--pccs', 'file:///etc/passwd'], /wants a URL/],
    [[quoteFile, '--pccs', 'https://user:pw@pccs.example'], /wants a URL/],
    [[quoteFile, ...root, ...at, ...pccs], /Cannot get http:\/\/127\.0\.0\.1:1\//],
  ]
  for (const [args, complaint] of rows) {
    const { status, stderr } = await runCvmd(['verify', ...args])
    assert.equal(status, 2, stderr)
    assert.match(stderr, complaint)
    assert.doesNotMatch(stderr, /:pw@/)
  }
})

test('collateral is written as it is read', () => {
  const fixture = new URL('fixtures/tdx/qvl-uptodate-collateral.json', import.meta.url)
  for (const json of [tdx.collateral, readFileSync(fixture)]) {
    const collateral = parseCollateral(json)
    assert.deepEqual(parseCollateral(formatCollateral(collateral)), collateral)
  }
})
