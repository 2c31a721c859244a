import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createConsola } from 'consola/basic'
import * as v from 'valibot'
import eventlog from '../../plugins/eventlog/index.ts'
import { Journal, type JournalOptions } from '../../plugins/eventlog/journal.ts'
import { replay } from '../../plugins/eventlog/journal-files.ts'
import { NO_ATTESTER } from '../../src/attester/none.ts'
import { EventLog } from '../../src/events/log.ts'
import { NO_GPUS } from '../../src/gpu/none.ts'
import { Metrics } from '../../src/metrics.ts'
import { runtime } from '../../src/runtime.ts'
import { setUp } from '../../src/setup.ts'
import { hostPlugin } from '../helpers/plugin-host.ts'

async function withDir(use: (dir: string) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'cvmd-journal-'))
  try {
    await use(dir)
  } finally {
    chmodSync(dir, 0o700)
    rmSync(dir, { recursive: true, force: true })
  }
}

function journalIn(dir: string, options: Partial<JournalOptions> = {}): Journal {
  const unexpected = (cause: unknown) => assert.fail(String(cause))
  return new Journal({
    dir,
    maxBytes: 1e6,
    files: 3,
    failed: unexpected,
    recovered: unexpected,
    ...options,
  })
}

/** One run of a daemon: opens the journal, appends, closes. */
async function run(
  dir: string,
  messages: readonly string[],
  options: Partial<JournalOptions> = {},
) {
  const log = new EventLog()
  log.append('cvmd', 'boot', { time: 1 })
  const journal = journalIn(dir, options)
  const found = await journal.open(log)
  for (const message of messages) log.append('t', message, { time: 2 })
  await journal.durable(log.next - 1)
  await journal.close()
  return { log, found }
}

const segments = (dir: string) =>
  readdirSync(dir)
    .filter((name) => name.startsWith('events-'))
    .sort()
const newest = (dir: string) => join(dir, segments(dir).at(-1) as string)
const messages = (log: EventLog) => log.after(0).map(({ message }) => message)

test('events, numbers and the chain go on over restarts', () =>
  withDir(async (dir) => {
    const first = await run(dir, ['a', 'b\n"\u2028\0'])
    const { log, found } = await run(dir, ['c'])
    assert.deepEqual(messages(log), ['boot', 'a', 'b\n"\u2028\0', 'boot', 'c'])
    assert.deepEqual([found.next, found.head, found.torn], [4, first.log.head, 0])
    const straight = new EventLog()
    for (const event of log.after(0)) {
      straight.append(event.source, event.message, { time: event.time })
    }
    assert.equal(log.head, straight.head)
    assert.equal(statSync(newest(dir)).mode & 0o777, 0o600)
  }))

test('bytes that are not UTF-8 go through the journal', () =>
  withDir(async (dir) => {
    const log = new EventLog()
    const journal = journalIn(dir)
    await journal.open(log)
    log.append('fifo', '\uFFFD', { raw: Uint8Array.of(0xff) })
    await journal.close()
    const { log: again } = await run(dir, [])
    assert.deepEqual([...(again.get(1)?.raw ?? [])], [0xff])
  }))

test('segments rotate by size and the oldest go', () =>
  withDir(async (dir) => {
    const options = { maxBytes: 2000, files: 3 }
    for (let i = 0; i < 12; i++) await run(dir, ['x'.repeat(300), `run ${i}`], options)
    assert.equal(segments(dir).length, 3)
    for (const name of segments(dir)) assert.ok(statSync(join(dir, name)).size <= 2000)
    const { found, log } = await run(dir, [], options)
    assert.equal(found.broken, undefined)
    assert.equal(found.next, 37)
    assert.equal(log.get(36)?.message, 'run 11')
    assert.ok(log.first > 1)
  }))

test('only the newest events are loaded', () =>
  withDir(async (dir) => {
    await run(
      dir,
      Array.from({ length: 3000 }, (_, i) => `m${i}`),
    )
    const found = await replay(dir, 10)
    assert.equal(found.records.length, 10)
    assert.equal(found.records.at(-1)?.event.message, 'm2999')
  }))

test('whatever byte a crash ends the journal at, the whole events before it come back', () =>
  withDir(async (dir) => {
    await run(dir, ['one', 'two', 'three'])
    const whole = readFileSync(newest(dir))
    const name = newest(dir)
    for (let size = whole.length; size >= 0; size -= 7) {
      writeFileSync(name, whole.subarray(0, size))
      const complete = whole.subarray(0, size).toString().split('\n').length - 1
      const found = await replay(dir, 100)
      assert.equal(found.broken, undefined)
      assert.equal(found.records.length, Math.max(0, complete - 1))
      assert.equal(found.next, 1 + Math.max(0, complete - 1))
      if (complete > 0) assert.equal(statSync(name).size, found.size)
      else assert.ok(!existsSync(name))
    }
    // A hole: blocks that never reached the disk read as zeros, with later ones behind them.
    writeFileSync(name, Buffer.concat([whole, Buffer.alloc(100), Buffer.from('\n{"seq":9}\n')]))
    const { log, found } = await run(dir, ['on'])
    assert.equal(found.torn, 111)
    assert.deepEqual(messages(log), ['boot', 'one', 'two', 'three', 'boot', 'on'])
  }))

test('a journal that was changed is moved aside, and numbering goes on after it', () =>
  withDir(async (dir) => {
    await run(dir, ['one', 'two', 'three'])
    const path = newest(dir)
    const good = readFileSync(path, 'utf8')
    const changed = [
      good.replace('"two"', '"TWO"'),
      good.replace(/^.*"two".*\n/m, ''),
      good.replace('"seq":2', '"seq":7'),
      good.replace('"level":"info"', '"level":"loud"'),
      good.replace('"journal":1', '"journal":2'),
      good.replace('"first":1', '"first":3'),
    ]
    for (const [i, content] of changed.entries()) {
      writeFileSync(path, content)
      const { log, found } = await run(dir, ['after'])
      assert.ok(found.broken, `change ${i}`)
      assert.ok(found.next >= 4, `change ${i}: ${found.next}`)
      assert.deepEqual(messages(log), ['boot', 'after'])
      assert.equal(
        readFileSync(join(found.broken.movedTo, 'events-000000000000001.jsonl'), 'utf8'),
        content,
      )
      const { found: next } = await run(dir, [])
      assert.equal(next.broken, undefined)
      for (const name of segments(dir)) rmSync(join(dir, name))
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
  }))

test('a missing or shortened segment in the middle is damage', () =>
  withDir(async (dir) => {
    const options = { maxBytes: 1000, files: 9 }
    for (let i = 0; i < 4; i++) await run(dir, ['x'.repeat(600)], options)
    const names = segments(dir)
    assert.ok(names.length > 2)
    const middle = join(dir, names[1] as string)
    const content = readFileSync(middle)
    truncateSync(middle, content.length - 5)
    const found = await replay(dir, 10)
    assert.match(found.broken?.reason ?? '', /the last line is cut/)
    // No number of a later segment is given out again.
    assert.ok(found.next > 8)
  }))

test('the plugin reports a broken journal as an event and runs on', () =>
  withDir(async (stateDir) => {
    const dir = join(stateDir, 'eventlog')
    mkdirSync(dir)
    await run(dir, ['one'])
    writeFileSync(newest(dir), readFileSync(newest(dir), 'utf8').replace('"one"', '"two"'))
    const { log, stop } = await startPlugin(stateDir)
    const report = log.after(0).find(({ level }) => level === 'error')
    assert.match(report?.message ?? '', /^event journal moved to .*broken-.*: .*breaks the chain$/)
    await stop()
    const again = await startPlugin(stateDir)
    assert.ok(messages(again.log).includes(report?.message as string))
    await again.stop()
  }))

/** Starts the plugin on a state directory that outlives it. */
async function startPlugin(stateDir: string) {
  const log = new EventLog()
  const loaded = setUp(
    eventlog,
    v.parse(eventlog.config, { persist: true }),
    {
      eventLog: log,
      attestation: NO_ATTESTER,
      gpus: NO_GPUS,
      daemon: { plugins: () => [] },
      metrics: new Metrics(),
      log: createConsola({ level: -999 }),
      stateDir,
      device: { has: () => true, path: (path) => path },
    },
    {},
  )
  await loaded.instance.start?.()
  return { log, stop: async () => loaded.instance.stop?.() }
}

test('a reload goes on in the same journal', () =>
  withDir(async (dir) => {
    const log = new EventLog()
    log.append('t', 'one')
    const first = journalIn(dir)
    await first.open(log)
    await first.close()
    log.append('t', 'between')
    const second = journalIn(dir)
    const found = await second.open(log)
    assert.equal(found.broken, undefined)
    log.append('t', 'two')
    await second.close()
    assert.equal(segments(dir).length, 1)
    assert.deepEqual(
      (await replay(dir, 10)).records.map(({ event }) => event.message),
      ['one', 'between', 'two'],
    )
  }))

test('persistence that is switched on later begins a journal of its own', () =>
  withDir(async (dir) => {
    await run(dir, ['old'])
    const log = new EventLog()
    log.append('t', 'seen by readers')
    log.settle()
    const journal = journalIn(dir)
    assert.ok((await journal.open(log)).broken)
    log.append('t', 'new')
    await journal.close()
    assert.deepEqual(
      (await replay(dir, 10)).records.map(({ event }) => event.message),
      ['seen by readers', 'new'],
    )
  }))

test('many appenders share a write, and each answer comes after it', () =>
  withDir(async (dir) => {
    const log = new EventLog()
    const journal = journalIn(dir)
    await journal.open(log)
    await Promise.all(
      Array.from({ length: 500 }, async (_, i) => {
        const { seq } = log.append('t', `m${i}`)
        await journal.durable(seq)
        assert.ok(readFileSync(newest(dir), 'utf8').includes(`"seq":${seq},`))
      }),
    )
    await journal.close()
  }))

test('a disk that fails: told once, kept in memory, tried again (U2)', () =>
  withDir(async (dir) => {
    const told: string[] = []
    const log = new EventLog()
    const journal = journalIn(dir, {
      retryMs: 10,
      failed: (cause) => told.push(`failed ${cause.message}`),
      recovered: (lost) => told.push(`recovered ${lost}`),
    })
    await journal.open(log)
    // The segment cannot be made: a folder has its name.
    const blocked = join(dir, 'events-000000000000001.jsonl')
    mkdirSync(blocked)
    const { seq } = log.append('t', 'first')
    await assert.rejects(journal.durable(seq), { name: 'ApiError', code: 'EVENT_NOT_DURABLE' })
    await assert.rejects(journal.durable(log.append('t', 'second').seq), { status: 507 })
    await new Promise((resolve) => setTimeout(resolve, 50))
    assert.equal(told.length, 1)
    assert.deepEqual(messages(log), ['first', 'second'])
    rmSync(blocked, { recursive: true, force: true })
    while (told.length < 2) await new Promise((resolve) => setTimeout(resolve, 5))
    await journal.durable(log.append('t', 'third').seq)
    assert.equal(told[1], 'recovered 0')
    await journal.close()
    assert.deepEqual(
      (await replay(dir, 10)).records.map(({ event }) => event.message),
      ['first', 'second', 'third'],
    )
  }))

test('a disk that fails for long loses the newest, says so, and the chain goes on', () =>
  withDir(async (dir) => {
    let recovered = -1
    const log = new EventLog()
    const journal = journalIn(dir, {
      retryMs: 10,
      maxBytes: 1 << 28,
      failed: () => undefined,
      recovered: (lost) => {
        recovered = lost
      },
    })
    await journal.open(log)
    const blocked = join(dir, 'events-000000000000001.jsonl')
    mkdirSync(blocked)
    await assert.rejects(journal.durable(log.append('t', 'first').seq))
    for (let i = 0; i < 40; i++) log.append('t', 'x'.repeat(1024 * 1024))
    assert.ok(journal.lost > 0)
    rmSync(blocked, { recursive: true, force: true })
    while (journal.waiting > 0) await new Promise((resolve) => setTimeout(resolve, 5))
    await journal.durable(log.append('t', 'after').seq)
    await journal.close()
    assert.equal(recovered, journal.lost)
    const found = await replay(dir, 100)
    assert.equal(found.broken, undefined)
    assert.deepEqual(
      found.records.map(({ event }) => event.message),
      ['after'],
    )
    assert.equal(found.head, log.head)
    assert.ok(readFileSync(newest(dir), 'utf8').includes(`"lost":${journal.lost}}`))
  }))

test('new_event and POST answer only when the event is on disk', async () => {
  const host = hostPlugin(eventlog, { persist: true })
  await host.start()
  const onDisk = () => readFileSync(newest(host.stateDir), 'utf8')
  assert.equal((await host.request('/api/v1/new_event?message=kept')).status, 200)
  assert.ok(onDisk().includes('"kept"'))
  const body = JSON.stringify({ message: 'kept too' })
  assert.equal((await host.request('/cvmd/events', { method: 'POST', body })).status, 201)
  assert.ok(onDisk().includes('"kept too"'))
  await host.stop()
})

test('nothing acknowledged is lost by kill -9', () =>
  withDir(async (dir) => {
    const script = fileURLToPath(new URL('../fixtures/journal-writer.ts', import.meta.url))
    const command = { node: ['--import', 'tsx'], bun: [], deno: ['run', '-A', '--no-check'] }
    let acknowledged: string[] = []
    for (let round = 0; round < 3; round++) {
      const child = spawn(process.execPath, [...command[runtime], script, dir, `r${round}`])
      let output = ''
      child.stdout.on('data', (data) => {
        output += data
      })
      const gone = new Promise((resolve) => child.on('exit', resolve))
      for (const end = Date.now() + 10_000; output.length < 3000 && Date.now() < end; ) {
        await new Promise((resolve) => setTimeout(resolve, 3))
      }
      child.kill('SIGKILL')
      await gone
      acknowledged = [...acknowledged, ...output.split('\n').slice(0, -1)]
      if (round === 1) appendFileSync(newest(dir), '{"seq":')
    }
    assert.ok(acknowledged.length > 300)
    const found = await replay(dir, 1e6)
    assert.equal(found.broken, undefined)
    const kept = new Set(found.records.map(({ event }) => event.message))
    for (const message of acknowledged) assert.ok(kept.has(message), message)
    assert.equal(kept.size, found.records.length)
  }))
