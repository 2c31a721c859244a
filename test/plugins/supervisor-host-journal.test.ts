import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { textOf, truthy, wholeNumber } from '../../plugins/supervisor/host/coercions.ts'
import { HostError } from '../../plugins/supervisor/host/host-error.ts'
import { Journal } from '../../plugins/supervisor/host/journal.ts'
import { journalArguments } from '../../plugins/supervisor/host/journal-request.ts'
import { runtime, serveHttp } from '../../src/runtime.ts'
import { lacks } from '../helpers/counterpart.ts'
import { processStat } from '../helpers/zombies.ts'

interface Place {
  readonly folder: string
  /** A stand-in for journalctl, as the body of a shell script. */
  journal(script: string, maxStreams?: number): Journal
}

async function withJournal(body: (place: Place) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-journal-'))
  const made: Journal[] = []
  try {
    await body({
      folder,
      journal: (script, maxStreams) => {
        const path = join(folder, `journalctl-${made.length}`)
        writeFileSync(path, `#!/bin/sh\ncd '${folder}'\n${script}\n`)
        chmodSync(path, 0o755)
        const journal = new Journal({ journalctl: [path], maxStreams })
        made.push(journal)
        return journal
      },
    })
  } finally {
    await Promise.all(made.map((journal) => journal.stop()))
    assert.deepEqual(
      made.map(({ running }) => running),
      made.map(() => 0),
    )
    rmSync(folder, { recursive: true, force: true })
  }
}

async function textOfStream(body: ReadableStream<Uint8Array>): Promise<string> {
  return new Response(body).text()
}

async function eventually(what: string, holds: () => boolean): Promise<void> {
  const latest = performance.now() + 10_000
  while (!holds()) {
    assert.ok(performance.now() < latest, `not within 10 s: ${what}`)
    await new Promise((done) => setTimeout(done, 10))
  }
}

const gone = (pid: string) => (processStat(pid)?.state ?? 'Z') === 'Z'

test('fields become arguments', () => {
  for (const [body, expected] of [
    [{}, '-o short'],
    [{ all: true, follow: 'on' }, '-a --follow -o short'],
    [{ all: 'banana', follow: 2 }, '-o short'],
    [{ unit: 'docker.service', containerId: 'a1b2' }, '-u docker.service -t a1b2 -o short'],
    [{ count: 10 }, '-n 10 -o short'],
    [{ count: '10.0' }, '-n 10 -o short'],
    [{ format: 'json', since: '-1h', until: '@1700000000' }, '-S -1h -U @1700000000 -o json'],
    [{ unit: '', count: null, format: undefined, since: '' }, '-o short'],
    [{ unit: 'systemd-*.service' }, '-u systemd-*.service -o short'],
  ] as const) {
    assert.equal(journalArguments(body).join(' '), expected)
  }
  assert.deepEqual(journalArguments({ since: '2026-01-01 10:00:00' }).slice(0, 2), [
    '-S',
    '2026-01-01 10:00:00',
  ])
})

test('values that cannot be meant are refused', () => {
  for (const body of [
    { format: 'sqlite' },
    { format: '--file=/etc/shadow' },
    { format: ['json'] },
    { count: 0 },
    { count: -1 },
    { count: '5; id' },
    { count: 'all' },
    { count: 1e9 },
    { unit: '--vacuum-size=1' },
    { unit: 'a b' },
    { unit: 'a\n' },
    { unit: 5 },
    { unit: 'null' },
    { unit: 'x'.repeat(300) },
    { containerId: '../x' },
    { containerId: {} },
    { since: 'x'.repeat(101) },
    { since: '$(id)' },
    { until: 'a;b' },
    { until: 5 },
  ]) {
    assert.throws(
      () => journalArguments(body),
      (error) => {
        assert.ok(error instanceof HostError)
        assert.deepEqual([error.status, error.code], [400, 'JOURNAL_REQUEST_INVALID'])
        return true
      },
      JSON.stringify(body),
    )
  }
})

test('whatever is asked for, only known options come out', () => {
  const known = new Set(['-a', '--follow', '-u', '-t', '-n', '-S', '-U', '-o'])
  const value = fc.oneof(fc.string(), fc.jsonValue(), fc.constantFrom('-a', '--file=x', '1'))
  const body = fc.record(
    Object.fromEntries(
      ['all', 'follow', 'count', 'unit', 'containerId', 'format', 'since', 'until'].map((name) => [
        name,
        value,
      ]),
    ),
    { requiredKeys: [] },
  )
  fc.assert(
    fc.property(body, (some) => {
      let argv: string[]
      try {
        argv = journalArguments(some)
      } catch (error) {
        assert.ok(error instanceof HostError)
        return
      }
      for (let at = 0; at < argv.length; at++) {
        const option = argv[at] ?? ''
        assert.ok(known.has(option), option)
        if (option !== '-a' && option !== '--follow') at++
      }
      assert.ok(argv.every((text) => !/[\0\n]/.test(text)))
    }),
  )
})

test('coercions take what the API of balena takes', () => {
  for (const yes of [true, 1, '1', 'true', 'TRUE', 'on', 'On']) assert.equal(truthy(yes), true)
  for (const no of [false, 0, 2, 'yes', 'banana', '', null, undefined, {}, [true], '1 ']) {
    assert.equal(truthy(no), false)
  }
  for (const [value, expected] of [
    [101, 101],
    ['101', 101],
    ['101.0', 101],
    ['101.', 101],
    [-3, -3],
    ['-3', -3],
    [0, 0],
  ] as const) {
    assert.equal(wholeNumber(value), expected)
  }
  for (const bad of ['0x65', '50.55', '', '45x', null, {}, [1], 1.5, Number.NaN, '9'.repeat(20)]) {
    assert.equal(wholeNumber(bad), undefined)
  }
  assert.equal(textOf('a'), 'a')
  for (const bad of ['', 'null', 'undefined', 5, null, undefined])
    assert.equal(textOf(bad), undefined)
})

test('output comes as it is, bytes and all, with arguments never seen by a shell', async () => {
  await withJournal(async ({ journal }) => {
    const echo = journal('for a in "$@"; do printf \'<%s>\' "$a"; done; printf \'\\377\\000\'')
    const { body, ended } = await echo.read({ since: 'yesterday 10:00', format: 'cat' })
    const bytes = Buffer.from(await new Response(body).arrayBuffer())
    assert.equal(bytes.toString('latin1'), '<-S><yesterday 10:00><-o><cat>\xff\0')
    await ended
  })
})

test('a slow reader holds the process back', async () => {
  await withJournal(async ({ journal, folder }) => {
    const flood = journal("head -c 20000000 /dev/zero | tr '\\0' x; echo done > done")
    const { body } = await flood.read({})
    const reader = body.getReader()
    let size = 0
    while (size === 0) size += (await reader.read()).value?.length ?? 0
    // It cannot end while most of its output is unread, however long one looks.
    assert.throws(() => readFileSync(join(folder, 'done')))
    for (;;) {
      const { value, done } = await reader.read()
      if (done) break
      size += value.length
    }
    assert.equal(size, 20_000_000)
    await eventually('the script is done', () => {
      try {
        return readFileSync(join(folder, 'done'), 'utf8') === 'done\n'
      } catch {
        return false
      }
    })
  })
})

test('a reader that goes away ends the process and what it started', async () => {
  await withJournal(async ({ journal }) => {
    const endless = journal('sleep 600 & echo $$ $!; wait')
    const { body, ended } = await endless.read({ follow: true })
    const reader = body.getReader()
    let text = ''
    while (!text.includes('\n')) text += Buffer.from((await reader.read()).value ?? []).toString()
    const [shell = '', child = ''] = text.trim().split(' ')
    await reader.cancel()
    await ended
    await eventually('both are gone', () => gone(shell) && gone(child))
    assert.equal(endless.running, 0)
  })
})

test('one that ignores TERM is killed', async () => {
  await withJournal(async ({ journal }) => {
    const stubborn = journal("trap '' TERM; echo up; while :; do sleep 1; done")
    const { body, ended } = await stubborn.read({})
    const reader = body.getReader()
    while (((await reader.read()).value?.length ?? 0) === 0);
    await reader.cancel()
    await ended
  })
})

test('stop ends all, and their streams close', async () => {
  await withJournal(async ({ journal }) => {
    const endless = journal('echo up; exec sleep 600')
    const streams = await Promise.all([endless.read({}), endless.read({})])
    const texts = streams.map(({ body }) => textOfStream(body))
    assert.equal(endless.running, 2)
    await endless.stop()
    assert.equal(endless.running, 0)
    for (const text of await Promise.all(texts)) assert.ok(['', 'up\n'].includes(text))
  })
})

test('only so many are read at a time', async () => {
  await withJournal(async ({ journal }) => {
    const few = journal('exec sleep 600', 2)
    const first = await few.read({})
    await few.read({})
    await assert.rejects(few.read({}), { code: 'JOURNAL_BUSY', status: 429 })
    await first.body.cancel()
    await first.ended
    await (await few.read({})).body.cancel()
  })
})

test('a program that is not there is said before anything is answered', async () => {
  await withJournal(async ({ folder }) => {
    for (const [program, message] of [
      [
        '/nonexistent/journalctl',
        'Cannot read the journal: "/nonexistent/journalctl" is not installed',
      ],
      [folder, 'Cannot read the journal: it cannot start (EACCES)'],
    ] as const) {
      const journal = new Journal({ journalctl: [program] })
      await assert.rejects(journal.read({}), { code: 'JOURNAL_UNAVAILABLE', status: 503, message })
      assert.equal(journal.running, 0)
    }
  })
})

test('over HTTP the head comes before any output, and a lost client ends the process', async () => {
  await withJournal(async ({ journal, folder }) => {
    const silent = journal('echo $$ > pid; exec sleep 600')
    const listener = await serveHttp(
      '127.0.0.1:0',
      { host: '127.0.0.1', port: 0 },
      {
        maxHeadBytes: 65_536,
        headTimeoutMs: 10_000,
        idleTimeoutMs: 60_000,
        maxConnections: 10,
        maxConnectionsPerPeer: 10,
      },
      async () => new Response((await silent.read({ follow: true })).body),
    )
    try {
      const socket = connect(listener.port, '127.0.0.1')
      let head = ''
      socket.on('data', (chunk) => {
        head += chunk
      })
      socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
      // Bun's own server holds all but the first line back until there is a byte of the body.
      const end = runtime === 'bun' ? '\r\n' : '\r\n\r\n'
      await eventually('the head comes', () => head.includes(end))
      assert.ok(head.startsWith('HTTP/1.1 200 OK\r\n'))
      assert.equal(silent.running, 1)
      let pid = ''
      await eventually('the script runs', () => {
        try {
          pid = readFileSync(join(folder, 'pid'), 'utf8').trim()
        } catch {}
        return pid !== ''
      })
      socket.destroy()
      await eventually('the process is gone', () => silent.running === 0 && gone(pid))
    } finally {
      await silent.stop()
      await listener.close(0)
    }
  })
})

test('the real journalctl takes the arguments', async (t) => {
  if (lacks(t, 'journalctl')) return
  const journal = new Journal({ journalctl: ['journalctl', '--quiet'] })
  const { body, ended } = await journal.read({
    count: 1,
    unit: 'none.service',
    since: '-1h',
    all: 1,
  })
  assert.equal(await textOfStream(body), '')
  await ended
})
