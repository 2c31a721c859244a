import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { certificatePem } from '../src/x509/issue.ts'
import { cvmdCommand, freshFolder, runCvmd } from './helpers/daemon.ts'
import { nitroSample, SAMPLE_TIME, tdxSample } from './helpers/evidence.ts'

const folder = freshFolder()
const tdx = tdxSample()
const reportData = new Uint8Array(64).fill(9)
const quote = tdx.quote(reportData)

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

const quoteFile = file('quote.bin', quote)
const documentFile = file('document.bin', nitroSample().document())
const trust = [
  ...['--root', file('root.pem', certificatePem(tdx.root))],
  ...['--collateral', file('collateral.json', tdx.collateral)],
]
const at = ['--at', new Date(SAMPLE_TIME).toISOString()]

test('accepted evidence ends with 0 and a readable verdict', async () => {
  const { status, stdout, stderr } = await runCvmd(['verify', quoteFile, ...trust, ...at])
  assert.deepEqual([status, stderr], [0, ''])
  assert.match(stdout, /^quote\n/)
  assert.match(stdout, /\nIt proves:\n/)
  assert.match(stdout, /\naccepted\n$/)
})

test('rejected evidence ends with 1 and the reason, in JSON too', async () => {
  const der = ['--root', file('root.der', tdx.root), ...trust.slice(2)]
  const args = ['verify', quoteFile, ...der, ...at, '--report-data', '0x1234', '--json']
  const { status, stdout } = await runCvmd(args)
  const { accepted, reason, form, claims } = JSON.parse(stdout)
  assert.deepEqual(
    [status, accepted, reason.code, form],
    [1, false, 'REPORT_DATA_MISMATCH', 'quote'],
  )
  assert.equal(claims.report_data, '09'.repeat(64))
  // Without the simulator's root nothing of it is believed.
  const pinned = await runCvmd(['verify', quoteFile, ...trust.slice(2), ...at])
  assert.equal(pinned.status, 1)
  assert.match(pinned.stdout, /\nrejected: .*\n$/)
})

test('without collateral only the signatures are judged, which is said loudly', async () => {
  const root = trust.slice(0, 2)
  const bare = await runCvmd(['verify', quoteFile, ...root, ...at])
  assert.equal(bare.status, 1)
  assert.match(bare.stdout, /\nrejected: .*COLLATERAL/)
  const args = ['verify', quoteFile, ...root, ...at, '--without-collateral']
  const { status, stdout } = await runCvmd(args)
  assert.equal(status, 0)
  assert.match(stdout, /\naccepted WITHOUT COLLATERAL: the platform may be revoked or outdated/)
  assert.match(stdout, /^skipped +TCB status/m)
  const { accepted, caveat } = JSON.parse((await runCvmd([...args, '--json'])).stdout)
  assert.ok(accepted)
  assert.match(caveat, /^WITHOUT COLLATERAL/)
  // Neither a foreign root nor wrong report data becomes good by it.
  const foreign = await runCvmd(['verify', quoteFile, ...at, '--without-collateral'])
  assert.equal(foreign.status, 1)
  assert.doesNotMatch(foreign.stdout, /WITHOUT COLLATERAL/)
  assert.equal((await runCvmd([...args, '--report-data', '00'])).status, 1)
  const full = await runCvmd(['verify', quoteFile, ...trust, ...at, '--json'])
  assert.equal(JSON.parse(full.stdout).caveat, null)
})

test('the TCB statuses to accept can be named', async () => {
  const judged = (list: string) =>
    runCvmd(['verify', quoteFile, ...trust, ...at, '--json', '--tcb-status', list])
  assert.equal((await judged('UpToDate, SWHardeningNeeded')).status, 0)
  const other = await judged('SWHardeningNeeded,OutOfDate')
  assert.equal(other.status, 1)
  assert.equal(JSON.parse(other.stdout).reason.code, 'TCB_NOT_ACCEPTED')
})

test('standard input is read, and once only', async () => {
  const [command, args] = cvmdCommand(['verify', '-', ...trust, '--at', String(SAMPLE_TIME / 1000)])
  const child = spawn(command, args, { stdio: ['pipe', 'ignore', 'ignore'] })
  child.stdin.end(`0x${Buffer.from(quote).toString('hex')}\n`)
  const status = await new Promise((resolve) => child.once('close', resolve))
  assert.equal(status, 0)
  const twice = await runCvmd(['verify', '-', '--log', '-'])
  assert.deepEqual(
    [twice.status, twice.stderr],
    [2, 'cvmd: standard input can be read only once\n'],
  )
})

test('what cannot be read ends with 2', async () => {
  mkdirSync(join(folder, 'directory'))
  const cases: [string[], RegExp][] = [
    [[], /give a FILE/],
    [[join(folder, 'missing')], /cannot read .*ENOENT/],
    [[join(folder, 'directory')], /cannot read .*EISDIR/],
    [[file('empty', '')], /Cannot read evidence/],
    [[file('text', 'hello')], /Cannot read evidence/],
    [[file('large', new Uint8Array(16 * 1024 * 1024 + 1))], /is longer than/],
    [[quoteFile, '--at', 'noon'], /--at wants a time/],
    [[quoteFile, '--at', '2026-13-01T00:00:00Z'], /--at wants a time/],
    [[quoteFile, '--report-data', 'xyz'], /--report-data wants hex/],
    [[quoteFile, '--report-data', '00'.repeat(65)], /at most 64 bytes/],
    [[quoteFile, '--nonce', '00'], /use --report-data/],
    [[quoteFile, '--root', file('no.pem', 'x')], /Cannot read certificate/],
    [[quoteFile, '--root', file('two.pem', certificatePem(tdx.root).repeat(2))], /exactly one/],
    [[quoteFile, '--collateral', file('no.json', '{}')], /Cannot read collateral/],
    [[quoteFile, '--tcb-status', 'Revoked'], /--tcb-status wants some of UpToDate, .*"Revoked"/],
    [[quoteFile, '--tcb-status', ''], /--tcb-status wants/],
    [[quoteFile, '--tcb-status', 'uptodate'], /--tcb-status wants/],
    [[quoteFile, ...trust, '--without-collateral'], /exclude each other/],
    [[documentFile, '--without-collateral'], /never needs collateral/],
    [[documentFile, '--tcb-status', 'UpToDate'], /has no --tcb-status/],
    [[quoteFile, '--nosuch'], /there is no flag/],
  ]
  for (const [args, complaint] of cases) {
    const { status, stderr } = await runCvmd(['verify', ...args])
    assert.equal(status, 2, args.join(' '))
    assert.match(stderr, complaint)
  }
  const cut = await runCvmd(['verify', file('cut.bin', quote.subarray(0, 1000)), ...trust, ...at])
  assert.equal(cut.status, 2)
  assert.match(cut.stdout, /\nrejected: Cannot read quote: /)
})
