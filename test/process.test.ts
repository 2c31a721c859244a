import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { goErrno, goSignal } from '../src/compat/go-errors.ts'
import { type ProcessSpec, runProcess } from '../src/process/run.ts'
import { Tail } from '../src/process/tail.ts'
import { findUser } from '../src/process/user.ts'
import { processStat, zombieChildren } from './helpers/zombies.ts'

const env = { PATH: process.env.PATH ?? '/usr/bin:/bin' }

function spec(script: string, more: Partial<ProcessSpec> = {}): ProcessSpec {
  return {
    argv: ['/bin/sh', '-c', script],
    env,
    timeoutMs: 20_000,
    graceMs: 5000,
    maxOutputBytes: 4096,
    ...more,
  }
}

function run(script: string, more: Partial<ProcessSpec> = {}) {
  return runProcess(spec(script, more))
}

/** Waits until a process printed something. */
async function printed(running: { stdout: Tail }): Promise<string> {
  for (let i = 0; i < 500 && running.stdout.end === 0; i++) await sleep(10)
  return running.stdout.text().trim()
}

async function gone(pid: string): Promise<boolean> {
  // An orphan's zombie is its new parent's business, so it counts as gone.
  for (let i = 0; i < 200; i++) {
    if ((processStat(pid)?.state ?? 'Z') === 'Z') return true
    await sleep(10)
  }
  return false
}

describe('runProcess', () => {
  it('gives status, output and nothing on stdin', async () => {
    const running = run('cat; echo out; echo err >&2; exit 3')
    assert.deepEqual(await running.done, {
      exitCode: 3,
      signal: undefined,
      errno: undefined,
      timedOut: false,
      lost: false,
    })
    assert.equal(running.stdout.text(), 'out\n')
    assert.equal(running.stderr.text(), 'err\n')
  })

  it('names the signal', async () => {
    const { exitCode, signal } = await run('kill -9 $$').done
    assert.deepEqual([exitCode, signal], [undefined, 'SIGKILL'])
  })

  it('passes exactly the environment it was given', async () => {
    const running = runProcess({
      ...spec(''),
      argv: ['/usr/bin/env'],
      env: { A: '1', B: '$A `id`' },
    })
    await running.done
    assert.deepEqual(running.stdout.text().trim().split('\n').sort(), ['A=1', 'B=$A `id`'])
  })

  it('tells why a program could not be started', async () => {
    for (const [argv, code] of [
      [['/nonexistent/program'], 'ENOENT'],
      [['no-such-program-anywhere'], 'ENOENT'],
      [['/tmp'], 'EACCES'],
      [['/bin/echo', 'x'.repeat(4_000_000)], 'E2BIG'],
      [['/bin/echo', 'nul\0byte'], 'ERR_INVALID_ARG_VALUE'],
      [[], 'ERR_INVALID_ARG_VALUE'],
    ] as const) {
      const { errno, lost } = await runProcess({ ...spec(''), argv }).done
      assert.deepEqual([errno, lost], [code, false])
    }
  })

  it('waits for those who inherited the output', async () => {
    const running = run('(sleep 0.3; echo late) & echo early')
    await running.done
    assert.equal(running.stdout.text(), 'early\nlate\n')
  })

  it('waits for a process that closed its output', async () => {
    assert.equal((await run('exec >&- 2>&-; sleep 0.2; exit 4').done).exitCode, 4)
  })

  it('ends the group at the deadline', async () => {
    const running = run('sleep 60 & echo $!; wait', { timeoutMs: 800 })
    const child = await printed(running)
    const { signal, timedOut } = await running.done
    assert.deepEqual([signal, timedOut], ['SIGTERM', true])
    assert.ok(await gone(child))
  })

  it('kills a group that ignores TERM', async () => {
    const running = run("trap '' TERM; sh -c 'echo $$; while :; do sleep 1; done' & wait", {
      timeoutMs: 800,
      graceMs: 200,
    })
    const child = await printed(running)
    const { signal, timedOut } = await running.done
    assert.deepEqual([signal, timedOut], ['SIGKILL', true])
    assert.ok(await gone(child))
  })

  it('kills a child that ignores TERM although the leader obeyed it', async () => {
    const running = run('sh -c \'trap "" TERM; echo $$; while :; do sleep 1; done\' & wait', {
      timeoutMs: 800,
      graceMs: 300,
    })
    const child = await printed(running)
    assert.equal((await running.done).signal, 'SIGTERM')
    assert.ok(await gone(child))
  })

  it('is not kept open by a process that left the group', async () => {
    const running = run('setsid sleep 30 & exit 5', { timeoutMs: 500, graceMs: 10_000 })
    const started = performance.now()
    const { exitCode, timedOut } = await running.done
    assert.deepEqual([exitCode, timedOut], [5, true])
    assert.ok(performance.now() - started < 8000, 'an empty group needs no grace time')
  })

  it('reads a flood to its end and keeps the tail', async () => {
    const before = process.memoryUsage().rss
    const running = run('head -c 600000000 /dev/zero; echo the end')
    await running.done
    assert.equal(running.stdout.end, 600_000_008)
    assert.equal(running.stdout.size, 4096)
    assert.ok(running.stdout.text().endsWith('the end\n'))
    assert.ok(process.memoryUsage().rss - before < 400e6)
  })

  it('ends on request, twice without harm', async () => {
    const running = run('echo up; sleep 60')
    await printed(running)
    running.end()
    running.end()
    const { signal, timedOut } = await running.done
    assert.deepEqual([signal, timedOut], ['SIGTERM', false])
    running.end()
  })

  it('leaves no zombies', async () => {
    for (let round = 0; round < 15; round++) {
      const results = await Promise.all(
        Array.from({ length: 20 }, () => runProcess({ ...spec(''), argv: ['/bin/true'] }).done),
      )
      assert.ok(results.every(({ exitCode }) => exitCode === 0))
    }
    assert.deepEqual(zombieChildren(), [])
  })
})

describe('Tail', () => {
  it('keeps the last bytes of anything pushed', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 3000 }),
        fc.array(fc.uint8Array({ maxLength: 2500 }), { maxLength: 8 }),
        fc.nat(6000),
        (capacity, chunks, from) => {
          const tail = new Tail(capacity)
          for (const chunk of chunks) tail.push(chunk)
          const all = Buffer.concat(chunks)
          const start = Math.max(0, all.length - capacity)
          assert.deepEqual([tail.start, tail.end], [start, all.length])
          assert.deepEqual(tail.bytes(from), all.subarray(Math.max(from, start)))
          tail.trim()
          assert.deepEqual(tail.bytes(), all.subarray(start))
          tail.push(Buffer.from('more'))
          const longer = Buffer.concat([all, Buffer.from('more')])
          assert.deepEqual(tail.bytes(), longer.subarray(Math.max(0, longer.length - capacity)))
        },
      ),
    )
  })

  it('does not show half a character', () => {
    const tail = new Tail(4)
    tail.push(Buffer.from('€€'))
    assert.equal(tail.text(), '€')
  })
})

describe('findUser', () => {
  it('reads accounts and their groups', () => {
    const etc = mkdtempSync(join(tmpdir(), 'cvmd-etc-'))
    try {
      writeFileSync(`${etc}/passwd`, '# x\nroot:x:0:0::/root:/bin/sh\nop:x:77:88::/home/op:/bin/sh')
      writeFileSync(`${etc}/group`, 'adm:x:4:op,root\nop:x:88:op\ntty:x:5:\n')
      const op = { name: 'op', uid: 77, gid: 88, home: '/home/op', groups: [4] }
      assert.deepEqual(findUser('op', etc), op)
      assert.deepEqual(findUser(77, etc), op)
      assert.deepEqual(findUser('77', etc), op)
      assert.throws(() => findUser('nobody', etc), /no user "nobody"/)
    } finally {
      rmSync(etc, { recursive: true })
    }
  })
})

describe('Go words', () => {
  it('for errno and signals', () => {
    assert.equal(goErrno('ENOENT'), 'no such file or directory')
    assert.equal(goErrno('EWHATEVER'), 'EWHATEVER')
    assert.equal(goSignal('SIGKILL'), 'killed')
    assert.equal(goSignal('SIGSYS'), 'signal 31')
    assert.equal(goSignal('SIGWHATEVER'), 'SIGWHATEVER')
  })
})
