import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import fc from 'fast-check'
import { clearHandover, handoverComplete } from '../../plugins/supervisor/locks/handover.ts'
import { LockError, LockFolderError, Locks } from '../../plugins/supervisor/locks/locks.ts'
import { isServiceName, parseAppId } from '../../plugins/supervisor/locks/names.ts'
import { Turns } from '../../plugins/supervisor/locks/turns.ts'
import { runtime } from '../../src/runtime.ts'

const isRoot = process.getuid?.() === 0
const NAMES = ['resin-updates.lock', 'updates.lock']

const modeOf = (path: string) => statSync(path).mode & 0o7777

interface Place {
  readonly locks: Locks
  readonly root: string
  readonly problems: string[]
  /** A service's folder, as its container would find it. */
  folder(appId: number, service: string): Promise<string>
}

async function withLocks(body: (place: Place) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-locks-'))
  const root = join(realpathSync(folder), 'balena-supervisor/services')
  const problems: string[] = []
  const locks = new Locks({ root, onProblem: ({ message }) => problems.push(message) })
  await locks.start()
  try {
    await body({
      locks,
      root,
      problems,
      folder: (appId, service) => locks.folders.make(appId, service),
    })
    const marks = readdirSync(root).filter((name) => name.startsWith('.'))
    assert.deepEqual(marks, [], 'marks stayed')
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const lockedBy = (appId: number, service: string) => ({
  name: 'LockError',
  status: 423,
  code: 'UPDATES_LOCKED',
  message: `Lockfile exists for { appId: ${appId}, service: ${service} }`,
  appId,
  service,
})

const busy = (appId: number) => ({
  name: 'LockError',
  status: 423,
  code: 'LOCKS_BUSY',
  message: `Locks for app ${appId} are being held by another supervisor operation`,
})

/** Everything that can stand in the way, by how it is made. */
const KINDS: Record<string, (path: string) => void> = {
  file: (path) => writeFileSync(path, ''),
  'file without any permission': (path) => writeFileSync(path, 'x', { mode: 0 }),
  directory: (path) => mkdirSync(path),
  'dangling link': (path) => symlinkSync('/nonexistent/target', path),
  'link to a file': (path) => symlinkSync('/etc/passwd', path),
  'link to a directory': (path) => symlinkSync('/etc', path),
}

test('both names are taken while work is done, as balena makes them', async () => {
  await withLocks(async ({ locks, root, folder }) => {
    const main = await folder(101, 'main')
    assert.equal(main, join(root, '101', 'main'))
    assert.equal(modeOf(main), 0o1777)
    assert.equal(modeOf(join(root, '101')), 0o755)
    const answer = await locks.withLocks([101], {}, () => {
      assert.deepEqual(readdirSync(main).sort(), NAMES)
      for (const name of NAMES) {
        const path = join(main, name)
        assert.equal(modeOf(path), 0o444)
        assert.equal(readFileSync(path, 'utf8'), '0')
        assert.equal(statSync(path).uid, isRoot ? 65_534 : process.getuid?.())
      }
      return 'done'
    })
    assert.equal(answer, 'done')
    assert.deepEqual(readdirSync(main), [])
    assert.equal(locks.degraded === undefined, isRoot)
  })
})

test('all services with a folder are locked, and those named get one', async () => {
  await withLocks(async ({ locks, root, folder }) => {
    await folder(101, 'main')
    await folder(101, 'side.car')
    writeFileSync(join(root, '101', 'a file'), '')
    await locks.withLocks([101, 102], {}, () => {
      assert.deepEqual(readdirSync(join(root, '101', 'main')).sort(), NAMES)
      assert.deepEqual(readdirSync(join(root, '101', 'side.car')).sort(), NAMES)
      assert.equal(existsSync(join(root, '102')), false)
    })
    await locks.withLocks([102], { services: () => ['new'] }, () => {
      assert.deepEqual(readdirSync(join(root, '102', 'new')).sort(), NAMES)
    })
  })
})

for (const [kind, make] of Object.entries(KINDS)) {
  for (const name of NAMES) {
    test(`a ${kind} named ${name} locks`, async () => {
      await withLocks(async ({ locks, folder }) => {
        const main = await folder(101, 'main')
        const other = await folder(101, 'a-first')
        const path = join(main, name)
        make(path)
        const before = lstatSync(path)
        let ran = false
        await assert.rejects(
          locks.withLocks([101], {}, () => {
            ran = true
          }),
          lockedBy(101, 'main'),
        )
        assert.equal(ran, false)
        assert.deepEqual(readdirSync(main), [name], 'what was taken is given back')
        assert.deepEqual(readdirSync(other), [])
        assert.equal(lstatSync(path).ino, before.ino)
        assert.deepEqual(await locks.locksOf(101), [{ appId: 101, service: 'main', path }])
        assert.equal(locks.isBusy(101), false)
      })
    })
  }

  test(`force removes a ${kind}, and nothing it points at`, async () => {
    await withLocks(async ({ locks, folder }) => {
      const main = await folder(101, 'main')
      const passwd = lstatSync('/etc/passwd')
      for (const options of [{ force: true }, { override: true }]) {
        make(join(main, 'updates.lock'))
        await locks.withLocks([101], options, () => {
          assert.deepEqual(readdirSync(main).sort(), NAMES)
          assert.equal(lstatSync(join(main, 'updates.lock')).isFile(), true)
          assert.equal(readFileSync(join(main, 'updates.lock'), 'utf8'), '0')
        })
        assert.deepEqual(readdirSync(main), [], "the user's lock is gone afterwards")
      }
      const now = lstatSync('/etc/passwd')
      assert.deepEqual([now.uid, now.mode, now.nlink], [passwd.uid, passwd.mode, passwd.nlink])
    })
  })
}

test('force does not empty a folder', async () => {
  await withLocks(async ({ locks, folder }) => {
    const main = await folder(101, 'main')
    mkdirSync(join(main, 'updates.lock'))
    writeFileSync(join(main, 'updates.lock', 'keep'), '')
    await assert.rejects(
      locks.withLocks([101], { force: true }, () => undefined),
      lockedBy(101, 'main'),
    )
    assert.deepEqual(readdirSync(main), ['updates.lock'])
    assert.equal(existsSync(join(main, 'updates.lock', 'keep')), true)
  })
})

test('one lock keeps several apps unlocked, and is named', async () => {
  await withLocks(async ({ locks, folder }) => {
    const first = await folder(7, 'main')
    writeFileSync(join(await folder(101, 'db'), 'updates.lock'), '')
    await assert.rejects(
      locks.withLocks([101, 7], {}, () => undefined),
      lockedBy(101, 'db'),
    )
    assert.deepEqual(readdirSync(first), [])
  })
})

test("a foreign lock elsewhere is in nobody else's way", async () => {
  await withLocks(async ({ locks, folder }) => {
    writeFileSync(join(await folder(101, 'main'), 'updates.lock'), '')
    await folder(7, 'main')
    assert.equal(await locks.withLocks([7], {}, () => 'done'), 'done')
    assert.deepEqual(await locks.locksOf(7), [])
  })
})

test('locks are given back when the work fails', async () => {
  await withLocks(async ({ locks, folder }) => {
    const main = await folder(101, 'main')
    await assert.rejects(
      locks.withLocks([101], {}, () => Promise.reject(new Error('no'))),
      /^Error: no$/,
    )
    assert.deepEqual(readdirSync(main), [])
    await locks.withLocks([101], {}, () => undefined)
  })
})

test('other work on an app is waited for, and then refused', async () => {
  await withLocks(async ({ locks, folder }) => {
    await folder(101, 'main')
    const held = await locks.acquire([101])
    assert.equal(locks.isBusy(101), true)
    await assert.rejects(locks.acquire([101], { waitMs: 20 }), busy(101))
    await assert.rejects(locks.acquire([102, 101, 7], { waitMs: 20, force: true }), busy(101))
    assert.deepEqual([locks.isBusy(7), locks.isBusy(102)], [false, false])

    const abort = new AbortController()
    const aborted = locks.acquire([101], { signal: abort.signal, waitMs: Infinity })
    abort.abort(new Error('gone'))
    await assert.rejects(aborted, /^Error: gone$/)
    await assert.rejects(locks.acquire([101], { signal: abort.signal }), /^Error: gone$/)

    const order: string[] = []
    const second = locks.withLocks([101], { waitMs: Infinity }, () => order.push('second'))
    const third = locks.withLocks([7, 101], {}, () => order.push('third'))
    order.push('first')
    await held.release()
    await held.release()
    await Promise.all([second, third])
    assert.deepEqual(order, ['first', 'second', 'third'])
    assert.equal(locks.isBusy(101), false)
  })
})

test('apps wanted in any order never wait for each other for ever', async () => {
  await withLocks(async ({ locks }) => {
    const rounds = Array.from({ length: 50 }, (_, i) => (i % 2 ? [1, 2, 3] : [3, 2, 1]))
    let inside = 0
    const work = async () => {
      inside++
      assert.equal(inside, 1)
      await Promise.resolve()
      inside--
    }
    await Promise.all(rounds.map((ids) => locks.withLocks(ids, {}, work)))
  })
})

test('locks are given back though their files go in the same moment', async () => {
  await withLocks(async ({ locks, problems, folder }) => {
    for (let i = 0; i < 100; i++) {
      const path = await folder(1, 'main')
      const held = await locks.acquire([1])
      const gone = NAMES.map((name) => rm(join(path, name), { force: true }))
      await Promise.all([held.release(), ...gone])
    }
    assert.deepEqual(problems, [])
  })
})

test('a lock that an app puts in place of ours stays', async () => {
  await withLocks(async ({ locks, folder }) => {
    const main = await folder(101, 'main')
    await locks.withLocks([101], {}, async () => {
      assert.deepEqual(await locks.locksOf(101), [])
      unlinkSync(join(main, 'updates.lock'))
      writeFileSync(join(main, 'updates.lock'), 'mine')
      renameSync(join(main, 'resin-updates.lock'), join(main, 'elsewhere'))
      assert.equal((await locks.locksOf(101)).length, 1)
    })
    assert.equal(readFileSync(join(main, 'updates.lock'), 'utf8'), 'mine')
    assert.equal(existsSync(join(main, 'resin-updates.lock')), false)
  })
})

test('what a container makes of its folder is put right', async () => {
  await withLocks(async ({ locks, folder }) => {
    const main = await folder(101, 'main')
    chmodSync(main, 0)
    await locks.withLocks([101], {}, () => assert.equal(modeOf(main), 0o1777))
  })
})

test('a name that leaves the folder is none', async () => {
  await withLocks(async ({ locks, root }) => {
    for (const service of ['..', '.', '', '../x', 'a/b', '.hidden', 'a\0b', 'x'.repeat(256)]) {
      await assert.rejects(
        locks.acquire([101], { services: () => [service] }),
        (error) => error instanceof LockFolderError && error.status === 503,
        service,
      )
    }
    for (const appId of [-1, 1.5, Number.NaN, 2 ** 53]) {
      await assert.rejects(locks.acquire([appId]), LockFolderError)
    }
    assert.deepEqual(readdirSync(root), [])
  })
})

test('links in place of folders are refused', async () => {
  await withLocks(async ({ locks, root, folder }) => {
    const outside = mkdtempSync(join(tmpdir(), 'cvmd-outside-'))
    await folder(101, 'main')
    symlinkSync(outside, join(root, '101', 'linked'))
    await locks.withLocks([101], {}, () => assert.deepEqual(readdirSync(outside), []))
    await assert.rejects(locks.acquire([101], { services: () => ['linked'] }), LockFolderError)
    symlinkSync(outside, join(root, '102'))
    await assert.rejects(locks.acquire([102], { services: () => ['main'] }), LockFolderError)
    assert.deepEqual(readdirSync(outside), [])
    assert.notEqual(modeOf(outside), 0o1777)
    rmSync(outside, { recursive: true })
  })
})

test('a root that others may change is refused', async () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'cvmd-locks-')))
  const start = (...parts: string[]) => new Locks({ root: join(folder, ...parts) }).start()
  try {
    mkdirSync(join(folder, 'open'))
    chmodSync(join(folder, 'open'), 0o777)
    await assert.rejects(start('open'), /others may write to it, use mode 0755$/)
    await assert.rejects(start('open', 'inner'), /others may replace what is in ".*open"/)
    chmodSync(join(folder, 'open'), 0o1777)
    assert.deepEqual(await start('open', 'inner'), [])
    writeFileSync(join(folder, 'file'), '')
    await assert.rejects(start('file'), LockFolderError)
    if (isRoot) {
      mkdirSync(join(folder, 'theirs'))
      chownSync(join(folder, 'theirs'), 1234, 1234)
      await assert.rejects(start('theirs'), /it belongs to uid 1234/)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('left-overs of the supervisor of balena are removed at start, locks of apps are not', async () => {
  await withLocks(async ({ locks, folder }) => {
    const main = await folder(101, 'main')
    const make = (name: string, text: string, mode: number, uid: number) => {
      writeFileSync(join(main, name), text)
      if (isRoot) chownSync(join(main, name), uid, uid)
      chmodSync(join(main, name), mode)
    }
    make('updates.lock', '0', 0o444, 65_534)
    const removed = isRoot ? [join(main, 'updates.lock')] : []
    assert.deepEqual(await locks.start(), removed)
    for (const [text, mode, uid] of [
      ['', 0o444, 65_534],
      ['0', 0o644, 65_534],
      ['0', 0o444, 1000],
      ['00', 0o444, 65_534],
    ] as const) {
      rmSync(join(main, 'updates.lock'), { force: true })
      make('updates.lock', text, mode, uid)
      assert.deepEqual(await locks.start(), [])
    }
  })
})

/** A process that holds the locks of an app. */
interface Holder {
  readonly child: ChildProcess
  /** The next line it printed. */
  line(): Promise<unknown>
  readonly gone: Promise<void>
}

function hold(root: string, ids: { uid?: number; gid?: number } = {}): Holder {
  const flags = {
    node: ['--import', 'tsx'],
    bun: ['--no-install'],
    deno: ['run', '-A', '--no-check', '--quiet'],
  }[runtime]
  const script = resolve('test/plugins/supervisor-locks-child.ts')
  const child = spawn(process.execPath, [...flags, script, root, '101'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    ...ids,
  })
  const gone = new Promise<void>((done) => child.once('close', () => done()))
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[
    Symbol.asyncIterator
  ]()
  return {
    child,
    gone,
    line: async () => {
      const { value, done } = await lines.next()
      if (done) throw new Error('the holder ended')
      return JSON.parse(value)
    },
  }
}

test('locks of a killed process are told from those of apps and removed', async () => {
  await withLocks(async ({ root }) => {
    const first = hold(root)
    await first.line()
    assert.deepEqual(await first.line(), { held: [101] })
    const main = join(root, '101', 'main')
    assert.deepEqual(readdirSync(main).sort(), NAMES)
    first.child.kill('SIGKILL')
    await first.gone
    assert.deepEqual(readdirSync(main).sort(), NAMES)
    // One is the app's now, the other still ours whoever owns it.
    unlinkSync(join(main, 'resin-updates.lock'))
    writeFileSync(join(main, 'resin-updates.lock'), '0')
    chmodSync(join(main, 'resin-updates.lock'), 0o444)
    if (isRoot) chownSync(join(main, 'updates.lock'), 1000, 1000)

    const next = new Locks({ root })
    assert.deepEqual(await next.start(), [join(main, 'updates.lock')])
    await assert.rejects(
      next.acquire([101]),
      (error) => error instanceof LockError && error.message === lockedBy(101, 'main').message,
    )
    unlinkSync(join(main, 'resin-updates.lock'))
    await next.withLocks([101], {}, () => undefined)
  })
})

test('without root locks work and say that they are not owned as they should', async () => {
  await withLocks(async ({ root }) => {
    const ids = isRoot ? { uid: 12_345, gid: 12_345 } : {}
    if (isRoot) {
      for (let at = root; at.includes('cvmd-locks-'); at = resolve(at, '..')) {
        chownSync(at, 12_345, 12_345)
      }
    }
    const uid = isRoot ? 12_345 : process.getuid?.()
    for (const expected of [[], NAMES]) {
      const holder = hold(root, ids)
      const started = (await holder.line()) as { removed: string[]; degraded: string }
      assert.match(
        started.degraded,
        new RegExp(`^locks belong to uid ${uid} and not to 65534: .* failed with E[A-Z]+,`),
      )
      const names = started.removed.map((path) => path.split('/').at(-1)).sort()
      assert.deepEqual(names, expected)
      assert.deepEqual(await holder.line(), { held: [101] })
      const path = join(root, '101', 'main', 'updates.lock')
      assert.equal(statSync(path).uid, uid)
      if (expected.length === 0) holder.child.kill('SIGKILL')
      else {
        holder.child.stdin?.end()
        assert.deepEqual(await holder.line(), { released: true })
        assert.equal(existsSync(path), false)
      }
      await holder.gone
    }
  })
})

test('a lock that cannot be removed is reported and tried again', async () => {
  await withLocks(async ({ locks, folder, problems, root }) => {
    const main = await folder(101, 'main')
    const held = await locks.acquire([101])
    // A file in the folder's place makes every look at it fail.
    renameSync(join(root, '101'), join(root, '101-away'))
    writeFileSync(join(root, '101'), '')
    await held.release()
    assert.equal(problems.length, 2)
    assert.match(problems[0] ?? '', /^Cannot remove lock ".*": ENOTDIR/)
    unlinkSync(join(root, '101'))
    renameSync(join(root, '101-away'), join(root, '101'))
    assert.deepEqual(readdirSync(main).sort(), NAMES)
    await locks.withLocks([101], {}, () => undefined)
    assert.deepEqual(readdirSync(main), [])
    assert.equal(problems.length, 2)
  })
})

test('a hand-over is seen by either name and can be cleared', async () => {
  await withLocks(async ({ locks: { folders }, folder }) => {
    assert.equal(await handoverComplete(folders, 101, 'main'), false)
    await clearHandover(folders, 101, 'main')
    const main = await folder(101, 'main')
    for (const name of ['handover-complete', 'resin-kill-me']) {
      symlinkSync('/nonexistent', join(main, name))
      assert.equal(await handoverComplete(folders, 101, 'main'), true)
      await clearHandover(folders, 101, 'main')
      assert.equal(await handoverComplete(folders, 101, 'main'), false)
    }
  })
})

test('names: only what stays in its folder, ids in one form', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      if (isServiceName(text)) {
        assert.equal(join('/root/1', text), `/root/1/${text}`)
        assert.doesNotMatch(text, /[\n\0]/)
      }
      const id = parseAppId(text)
      if (id !== undefined) assert.equal(String(id), text)
    }),
  )
  fc.assert(
    fc.property(fc.nat({ max: Number.MAX_SAFE_INTEGER }), (id) => {
      assert.equal(parseAppId(String(id)), id)
      assert.equal(parseAppId(`0${id}`), undefined)
    }),
  )
})

test('turns: one at a time, in order, whoever gives up in between', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.boolean(), { maxLength: 20 }), async (gaveUp) => {
      const turns = new Turns<string>()
      const never = { latest: Number.POSITIVE_INFINITY }
      const late = () => new Error('late')
      const first = await turns.take('a', never, late)
      const order: number[] = []
      const waiting = gaveUp.map(async (gives, i) => {
        const abort = new AbortController()
        const turn = turns.take('a', { ...never, signal: abort.signal }, late)
        if (gives) {
          abort.abort(new Error('gave up'))
          await assert.rejects(turn, /gave up/)
          return
        }
        const pass = await turn
        order.push(i)
        pass()
        pass()
      })
      first()
      await Promise.all(waiting)
      const expected = gaveUp.flatMap((gives, i) => (gives ? [] : [i]))
      assert.deepEqual(order, expected)
      assert.equal(turns.has('a'), false)
    }),
    { numRuns: 50 },
  )
})
