import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { closeSync, constants, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { runtime } from '../src/runtime.ts'
import { REGISTERS, type TestAddon, TSM, testAddon } from './native/test-addon.ts'
import { fails } from './native/transport-contract.ts'

const STUCK = `${TSM}/x/fifo`

/** A machine on which {@link readStuck} does not return until `release`. */
function stuckAddon(t: TestContext): (TestAddon & { release(): void }) | undefined {
  const addon = testAddon(t)
  if (!addon) return undefined
  const fifo = join(addon.root, STUCK)
  addon.put(`${TSM}/x/inblob`)
  execFileSync('mkfifo', [fifo])
  let fd: number | undefined
  t.after(() => {
    if (fd !== undefined) closeSync(fd)
    addon.remove()
  })
  const release = () => {
    // Opening for both never waits.
    fd = openSync(fifo, constants.O_RDWR)
    writeSync(fd, 'late')
  }
  return { ...addon, release }
}

/** Is at its end when there is more than it may read: no other end of the FIFO has to be closed. */
function readStuck({ transport }: TestAddon): Promise<void> {
  return fails(transport.read(STUCK, 3), 'EFBIG', 'read', STUCK)
}

test('a device that does not answer holds up neither another device nor the process', async (t) => {
  const addon = stuckAddon(t)
  if (!addon) return
  const { transport } = addon
  const order: string[] = []
  const note = (name: string) => () => void order.push(name)
  const stuck = readStuck(addon).then(note('stuck'))
  const behind = transport.stat(TSM).then(note('behind'))
  addon.put(`${REGISTERS}/rtmr3:sha384`, 'r')
  await transport.read(`${REGISTERS}/rtmr3:sha384`, 48).then(note('registers'))
  await transport.ioctl('/dev/nsm', 'nsm', Uint8Array.of(1)).then(note('nsm'))
  await transport.stat('/proc/meminfo').then(note('facts'))
  await new Promise<void>((done) => setTimeout(done, 5)).then(note('timer'))
  assert.deepEqual(order, ['registers', 'nsm', 'facts', 'timer'])
  addon.release()
  await Promise.all([stuck, behind])
  assert.deepEqual(order.slice(4).sort(), ['behind', 'stuck'])
})

test('a thousand calls at once are answered, each with its own answer', async (t) => {
  const addon = testAddon(t)
  if (!addon) return
  t.after(addon.remove)
  const answers = await Promise.all(
    Array.from({ length: 1000 }, (_, i) =>
      addon.transport.ioctl('/dev/nsm', 'nsm', Uint8Array.of(1, i >> 8, i & 255)),
    ),
  )
  for (const [i, answer] of answers.entries()) {
    assert.deepEqual([...answer], [1, i >> 8, i & 255])
  }
})

test('calls of one device run in the order they were made', async (t) => {
  const addon = testAddon(t)
  if (!addon) return
  t.after(addon.remove)
  const { transport } = addon
  const path = `${TSM}/entry`
  for (let round = 0; round < 50; round++) {
    const results = await Promise.all([
      transport.mkdir(path),
      transport.list(TSM),
      transport.rmdir(path),
      transport.list(TSM),
    ])
    assert.deepEqual(results, [undefined, ['entry'], undefined, []])
  }
})

test('at most 1024 calls wait for a device; more are refused at once', async (t) => {
  const addon = stuckAddon(t)
  if (!addon) return
  const { transport } = addon
  const running = readStuck(addon)
  const waiting = Promise.allSettled(Array.from({ length: 1026 }, () => transport.stat(TSM)))
  await fails(transport.stat(TSM), 'EAGAIN', 'stat', TSM)
  addon.release()
  await running
  const refused = (await waiting).filter(({ status }) => status === 'rejected')
  // The read may have waited in the line too.
  assert.ok(refused.length === 2 || refused.length === 3, String(refused.length))
  assert.equal(await transport.stat(TSM), 'directory')
})

/** Runs test/native/run-calls.mjs to its end, at most 30 s. */
function runCalls(addon: TestAddon, scenario: string) {
  const args = ['test/native/run-calls.mjs', addon.file, scenario]
  const first = { node: [], bun: ['--no-install'], deno: ['run', '-A', '--quiet'] }[runtime]
  return spawnSync(process.execPath, [...first, ...args], { encoding: 'utf8', timeout: 30_000 })
}

for (const [scenario, what] of [
  ['idle', 'an addon with nothing to do lets the process end'],
  ['exit', 'a call that never returns does not keep a process that exits'],
  ['finish', 'nor one that has nothing else to do'],
  ['workers', 'a worker may end while its calls run'],
] as const) {
  test(what, (t) => {
    const addon = stuckAddon(t)
    if (!addon) return
    const { status, signal, stdout, stderr } = runCalls(addon, scenario)
    assert.deepEqual(
      { status, signal, stdout },
      { status: 0, signal: null, stdout: 'file\n' },
      stderr,
    )
  })
}
