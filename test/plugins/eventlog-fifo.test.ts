import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { Fifo, type FifoOptions } from '../../plugins/eventlog/fifo.ts'
import eventlog from '../../plugins/eventlog/index.ts'
import { Journal } from '../../plugins/eventlog/journal.ts'
import { LineFramer } from '../../plugins/eventlog/line-framer.ts'
import { leadingTime } from '../../plugins/eventlog/timestamps.ts'
import { EventLog } from '../../src/events/log.ts'
import { decodeText } from '../../src/events/text.ts'
import { hostPlugin } from '../helpers/plugin-host.ts'

interface Lab {
  readonly dir: string
  readonly path: string
  readonly log: EventLog
  start(options?: Partial<FifoOptions>): Promise<Fifo>
  /** Runs a shell script with `$1` = the FIFO. */
  shell(script: string): ChildProcess
  done(script: string): Promise<void>
  until(what: string, condition: () => boolean): Promise<void>
  lines(): string[]
}

async function withLab(use: (lab: Lab) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'cvmd-fifo-'))
  const path = join(dir, 'pipe.fifo')
  const log = new EventLog({ maxEntries: 300_000, maxBytes: 1 << 28 })
  const fifos: Fifo[] = []
  const shell = (script: string) => spawn('sh', ['-c', script, 'sh', path], { stdio: 'ignore' })
  const until = async (what: string, condition: () => boolean) => {
    for (const end = Date.now() + 15_000; !condition(); ) {
      if (Date.now() > end) throw new Error(`waited too long for: ${what}`)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }
  const lab: Lab = {
    dir,
    path,
    log,
    shell,
    until,
    start: async (options = {}) => {
      const fifo = new Fifo({
        path,
        mode: 0o660,
        maxLineBytes: 65_536,
        log,
        events: log.sink('eventlog'),
        stateDir: dir,
        checkMs: 30,
        ...options,
      })
      fifos.push(fifo)
      await fifo.start()
      return fifo
    },
    done: (script) =>
      new Promise((resolve, reject) => {
        shell(script).on('exit', (code) => (code === 0 ? resolve() : reject(new Error(script))))
      }),
    lines: () =>
      log
        .after(0)
        .filter(({ source }) => source === 'fifo')
        .map(({ message }) => message),
  }
  try {
    await use(lab)
  } finally {
    for (const fifo of fifos) await fifo.stop()
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Lines of a byte stream as the framer should give them, written the plain way. */
function expectedLines(bytes: Uint8Array, maxBytes: number): string[] {
  const parts: Buffer[] = []
  const data = Buffer.from(bytes)
  let from = 0
  for (let end = data.indexOf(10); end !== -1; end = data.indexOf(10, from)) {
    parts.push(data.subarray(from, end))
    from = end + 1
  }
  if (from < data.length) parts.push(data.subarray(from))
  return parts.map((part) =>
    part.length <= maxBytes ? decodeText(part).message : `cut ${part.length > maxBytes}`,
  )
}

test('framing does not depend on how the bytes are split (M2)', () => {
  const piece = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 12 }).map((text) => Buffer.from(text)),
    fc.uint8Array({ maxLength: 6 }).map((bytes) => Buffer.from(bytes)),
    fc.constant(Buffer.from('\n')),
    fc.constant(Buffer.from('plain line\nanother\n\n')),
    fc.constant(Buffer.from('a line that is longer than the limit of the framer\r\n')),
  )
  fc.assert(
    fc.property(fc.array(piece), fc.array(fc.nat(40)), (pieces, sizes) => {
      const all = Buffer.concat(pieces)
      const got: string[] = []
      const framer = new LineFramer(32, (message, raw) => {
        if (message.endsWith(' [cut]')) return got.push('cut true')
        if (raw) assert.equal(decodeText(raw).message, message)
        return got.push(message)
      })
      let at = 0
      for (const size of sizes) {
        // The reader's buffer is used again after each chunk.
        const chunk = Uint8Array.from(all.subarray(at, at + size))
        framer.push(chunk)
        chunk.fill(10)
        at += size
      }
      framer.push(Uint8Array.from(all.subarray(at)))
      framer.end()
      assert.deepEqual(got, expectedLines(all, 32))
      assert.equal(framer.lines, got.length)
      assert.equal(framer.cut, got.filter((line) => line === 'cut true').length)
    }),
    { numRuns: 500 },
  )
})

test('a long line is cut once, at a character, and the next is whole', () => {
  const got: string[] = []
  const framer = new LineFramer(5, (message) => got.push(message))
  framer.push(Buffer.from(`abcdé${'z'.repeat(200_000)}`))
  for (let i = 0; i < 50; i++) framer.push(Buffer.alloc(10_000, 'y'))
  framer.push(Buffer.from('\nnext\n12345\n123456\n'))
  assert.deepEqual(got, ['abcd [cut]', 'next', '12345', '12345 [cut]'])
})

test('times at the start of a line', () => {
  const cases: [string, number | undefined][] = [
    ['2024-11-05T22:03:23Z started', Date.UTC(2024, 10, 5, 22, 3, 23)],
    ['2024-11-05T22:03:23.125+02:00: x', Date.UTC(2024, 10, 5, 20, 3, 23, 125)],
    ['2024-11-05 22:03:23Z', Date.UTC(2024, 10, 5, 22, 3, 23)],
    ['1730844203 started', 1_730_844_203_000],
    ['1730844203.5 started', 1_730_844_203_500],
    ['1730844203125', 1_730_844_203_125],
    ['17308442031250', undefined],
    ['173084420', undefined],
    ['1730844203abc', undefined],
    ['2024-13-05T22:03:23Z', undefined],
    ['2024-11-05T22:03:23', undefined],
    ['x 1730844203', undefined],
    ['', undefined],
  ]
  for (const [line, time] of cases) assert.equal(leadingTime(line), time, line)
  fc.assert(
    fc.property(fc.date({ min: new Date(0), max: new Date(2e14), noInvalidDate: true }), (date) => {
      assert.equal(leadingTime(`${date.toISOString()} x`), date.getTime())
    }),
  )
  fc.assert(
    fc.property(fc.string(), (line) => {
      const time = leadingTime(line)
      assert.ok(time === undefined || (time >= 0 && time < 253_402_300_800_000))
    }),
  )
})

test('a FIFO is made with its mode whatever the umask', () =>
  withLab(async ({ path, start }) => {
    await start({ mode: 0o622 })
    const stat = statSync(path)
    assert.ok(stat.isFIFO())
    assert.equal(stat.mode & 0o777, 0o622)
  }))

test('an existing FIFO is used as it is, and a waiting writer is heard', () =>
  withLab(async ({ path, start, shell, until, lines }) => {
    execFileSync('mkfifo', [path])
    chmodSync(path, 0o604)
    shell('echo waiting > "$1"')
    await start()
    await until('the line', () => lines().length === 1)
    assert.deepEqual(lines(), ['waiting'])
    assert.equal(statSync(path).mode & 0o777, 0o604)
  }))

test('lines come in from writers that come and go, the last without its line feed', () =>
  withLab(async ({ start, done, until, lines, log }) => {
    await start()
    await done('printf "one\\ntwo\\r\\n\\n \\tx\\000y \\n" > "$1"; printf tail > "$1"')
    await until('the tail', () => lines().length === 5)
    await done('echo z > "$1"')
    await until('all lines', () => lines().length === 6)
    assert.deepEqual(lines(), ['one', 'two\r', '', ' \tx\0y ', 'tail', 'z'])
    await done('exec 3> "$1"; printf "caf\\303" >&3; sleep 0.05; printf "\\251\\377\\n" >&3')
    await until('the split line', () => lines().length === 7)
    const event = log.get(log.next - 1)
    assert.equal(event?.message, 'café\uFFFD')
    assert.deepEqual([...(event?.raw ?? [])], [...Buffer.from('café'), 0xff])
  }))

test('many short writers: nothing lost, nothing torn, order kept (F1)', () =>
  withLab(async ({ start, done, until, lines }) => {
    await start()
    const writer = (id: number) =>
      done(`i=0; while [ $i -lt 400 ]; do echo "w${id} $i" > "$1"; i=$((i+1)); done`)
    await Promise.all([0, 1, 2, 3].map(writer))
    await until('1600 lines', () => lines().length >= 1600)
    for (const id of [0, 1, 2, 3]) {
      assert.deepEqual(
        lines().filter((line) => line.startsWith(`w${id} `)),
        Array.from({ length: 400 }, (_, i) => `w${id} ${i}`),
      )
    }
    assert.equal(lines().length, 1600)
  }))

test('a storm of 64 writers and 200,000 lines (F1)', () =>
  withLab(async ({ start, done, until, lines, dir }) => {
    const fifo = await start()
    const block = join(dir, 'block')
    // Written 4096 bytes at a time, which the kernel keeps together (pipe(7), PIPE_BUF).
    writeFileSync(block, `${'l'.repeat(31)}\n`.repeat(3125))
    const writers = Array.from({ length: 64 }, () =>
      done(`dd if='${block}' of="$1" bs=4096 2>/dev/null`),
    )
    await Promise.all(writers)
    await until('200,000 lines', () => fifo.lines >= 200_000)
    assert.equal(fifo.lines, 200_000)
    assert.ok(lines().every((line) => line.length === 31))
  }))

test('long lines and binary noise are bounded (F1)', () =>
  withLab(async ({ start, done, until, lines }) => {
    const fifo = await start({ maxLineBytes: 4096 })
    await done(
      'head -c 1048576 /dev/zero | tr "\\000" x > "$1"; echo > "$1"; ' +
        'head -c 300000 /dev/urandom > "$1"; printf "\\nend\\n" > "$1"',
    )
    await until('the end', () => lines().at(-1) === 'end')
    assert.equal(lines()[0], `${'x'.repeat(4096)} [cut]`)
    assert.ok(fifo.cut >= 1)
    assert.ok(lines().every((line) => Buffer.byteLength(line) < 3 * 4096 + 20))
  }))

/** Processor time of a second; the original spins at 700,000 or more. */
const QUIET_US = 250_000

test('an idle FIFO costs next to nothing, also after its writers left', () =>
  withLab(async ({ start, done, until, lines }) => {
    await start({ checkMs: 2000 })
    await done('echo x > "$1"')
    await until('the line', () => lines().length === 1)
    // The process also does what is not about the FIFO, so the quietest second of some counts.
    let least = Number.POSITIVE_INFINITY
    for (let second = 0; second < 8 && least > QUIET_US; second += 1) {
      const before = process.cpuUsage()
      await new Promise((resolve) => setTimeout(resolve, 1000))
      const { user, system } = process.cpuUsage(before)
      least = Math.min(least, user + system)
    }
    assert.ok(least <= QUIET_US, `${least} µs of processor time in a second`)
  }))

test('a FIFO that is deleted or replaced is noticed', () =>
  withLab(async ({ path, start, done, until, lines, log }) => {
    await start()
    const warnings = () => log.after(0).filter(({ level }) => level === 'warn').length
    unlinkSync(path)
    await until('a new FIFO', () => existsSync(path) && warnings() === 1)
    await done('echo after delete > "$1"')
    await until('the line', () => lines().includes('after delete'))
    const other = `${path}.other`
    execFileSync('mkfifo', [other])
    renameSync(other, path)
    await until('the other FIFO', () => warnings() === 2)
    await done('echo after replace > "$1"')
    await until('the line', () => lines().includes('after replace'))
    unlinkSync(path)
    writeFileSync(path, 'into a file\n')
    await until('the file', () => lines().includes('into a file'))
    await done('test -p "$1" && echo last > "$1"')
    await until('the line', () => lines().includes('last'))
    assert.equal(lines().length, 4)
  }))

test('what cannot be a FIFO is refused at the start, and reported once while running', () =>
  withLab(async ({ path, dir, start, until, log, lines, done }) => {
    const refused = { message: `file ${path} is not a named pipe` }
    mkdirSync(path)
    await assert.rejects(start(), refused)
    rmSync(path, { recursive: true })
    writeFileSync(join(dir, 'secret'), 'secret\n')
    symlinkSync(join(dir, 'secret'), path)
    await assert.rejects(start(), refused)
    unlinkSync(path)
    linkSync(join(dir, 'secret'), path)
    await assert.rejects(start(), refused)
    unlinkSync(path)
    await assert.rejects(start({ path: join(dir, 'none', 'x') }), /no such file or directory/)

    await start()
    unlinkSync(path)
    mkdirSync(path)
    const errors = () => log.after(0).filter(({ level }) => level === 'error').length
    await until('the report', () => errors() === 1)
    await new Promise((resolve) => setTimeout(resolve, 100))
    assert.equal(errors(), 1)
    rmSync(path, { recursive: true })
    await until('a FIFO', () => existsSync(path) && statSync(path).isFIFO())
    await done('echo back > "$1"')
    await until('the line', () => lines().includes('back'))
    assert.equal(readFileSync(join(dir, 'secret'), 'utf8'), 'secret\n')
  }))

test('a regular file in its place is taken in first', () =>
  withLab(async ({ path, dir, start, done, until, lines, log }) => {
    writeFileSync(path, '2024-11-05T22:03:23Z dated\n1730844203 unix\nplain\ntail')
    utimesSync(path, 1000, 1000)
    await start()
    assert.deepEqual(
      log.after(0).map(({ message, time, source }) => [message, time, source]),
      [
        ['2024-11-05T22:03:23Z dated', Date.UTC(2024, 10, 5, 22, 3, 23), 'fifo'],
        ['1730844203 unix', 1_730_844_203_000, 'fifo'],
        ['plain', 1_000_000, 'fifo'],
        ['tail', 1_000_000, 'fifo'],
      ],
    )
    assert.ok(statSync(path).isFIFO())
    await done('echo live > "$1"')
    await until('the line', () => lines().length === 5)
    assert.deepEqual(execFileSync('ls', [dir]).toString().trim(), 'pipe.fifo')
  }))

test('a crash while a file is taken in neither loses nor doubles lines', () =>
  withLab(async ({ path, dir, start, lines }) => {
    // Linked, not yet replaced.
    writeFileSync(path, 'a\nb\n')
    linkSync(path, `${path}.early`)
    const first = await start()
    await first.stop()
    assert.deepEqual(lines(), ['a', 'b'])
    // Replaced, not yet taken in.
    writeFileSync(`${path}.early`, 'c\n')
    const second = await start()
    await second.stop()
    // Left behind by an earlier crash, and another file came since.
    writeFileSync(`${path}.early`, 'd\n')
    unlinkSync(path)
    writeFileSync(path, 'e\n')
    await start()
    assert.deepEqual(lines(), ['a', 'b', 'c', 'd', 'e'])
    assert.ok(!existsSync(`${path}.early`) && !existsSync(join(dir, 'early.json')))
  }))

test('lines that reached the journal before a crash are not taken in again', () =>
  withLab(async ({ path, dir, start }) => {
    const options = {
      dir,
      maxBytes: 1e6,
      files: 3,
      failed: () => assert.fail(),
      recovered: () => undefined,
    }
    // A run that came as far as three of five lines: the file, the note and the journal remain.
    const before = new EventLog()
    const crashed = new Journal(options)
    before.append('cvmd', 'boot')
    await crashed.open(before)
    for (const line of ['one', 'two', 'three']) before.append('fifo', line)
    await crashed.durable(4)
    await crashed.close()
    writeFileSync(`${path}.early`, 'one\ntwo\nthree\nfour\nfive\n')
    const { dev, ino } = statSync(`${path}.early`)
    const note = { file: `${dev}:${ino}`, from: 0, lines: 0, seq: 2 }
    writeFileSync(join(dir, 'early.json'), JSON.stringify(note))

    const log = new EventLog()
    log.append('cvmd', 'second boot')
    const journal = new Journal(options)
    await journal.open(log)
    await start({ log, journal })
    await journal.close()
    assert.deepEqual(
      log.after(0).map(({ message }) => message),
      ['boot', 'one', 'two', 'three', 'second boot', 'four', 'five'],
    )
    assert.ok(!existsSync(`${path}.early`))
  }))

test('stopping is prompt with a silent writer and keeps what it wrote', () =>
  withLab(async ({ path, start, shell, until, lines, log }) => {
    const fifo = await start()
    const writer = shell('exec 3> "$1"; echo first >&3; printf partial >&3; sleep 30')
    await until('the line', () => lines().length === 1)
    await new Promise((resolve) => setTimeout(resolve, 60))
    const started = performance.now()
    await fifo.stop()
    await fifo.stop()
    assert.ok(performance.now() - started < 2000)
    writer.kill()
    assert.deepEqual(lines(), ['first', 'partial'])
    assert.ok(existsSync(path))
    const again = new Fifo({
      path,
      mode: 0o660,
      maxLineBytes: 100,
      log,
      events: log.sink('eventlog'),
      stateDir: '/nonexistent',
    })
    await again.stop()
  }))

test('bytes go from the FIFO to /logs as they are', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'cvmd-fifo-'))
  const path = join(dir, 'events')
  const host = hostPlugin(eventlog, { fifo: path, max_line_bytes: 64 })
  await host.start()
  try {
    writeFileSync(
      path,
      Buffer.concat([Buffer.of(0, 0xff, 0xc3, 0x28, 13, 10), Buffer.from('ok\n')]),
    )
    while (host.eventLog.next < 3) await new Promise((resolve) => setTimeout(resolve, 5))
    const logs = Buffer.from(await (await host.request('/logs')).arrayBuffer())
    assert.deepEqual([...logs.subarray(23, 29)], [0, 0xff, 0xc3, 0x28, 13, 10])
    const metrics = await host.metrics.render()
    assert.match(metrics, /cvmd_fifo_lines_total 2/)
    assert.match(metrics, /cvmd_events_total\{source="fifo"\} 2/)
  } finally {
    await host.stop()
    rmSync(dir, { recursive: true, force: true })
  }
})
