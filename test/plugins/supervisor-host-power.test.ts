import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { HostError } from '../../plugins/supervisor/host/host-error.ts'
import { Led } from '../../plugins/supervisor/host/led.ts'
import { Power, type PowerOptions } from '../../plugins/supervisor/host/power.ts'

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-power-'))
  try {
    await body(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Commands that leave a trace and end as asked. */
function machine(folder: string, status = 0, more: Partial<PowerOptions> = {}) {
  const script = join(folder, 'power')
  writeFileSync(script, `#!/bin/sh\necho "$*" >> '${folder}/ran'\necho why >&2\nexit ${status}\n`)
  chmodSync(script, 0o755)
  const power = new Power({
    commands: { reboot: [script, 'reboot'], shutdown: [script, 'power off'] },
    delayMs: 5,
    ...more,
  })
  const ran = () =>
    existsSync(join(folder, 'ran')) ? readFileSync(join(folder, 'ran'), 'utf8') : ''
  return { power, ran }
}

test('a reboot and a shutdown run their command, after the answer', async () => {
  await withFolder(async (folder) => {
    for (const [action, line] of [
      ['reboot', 'reboot\n'],
      ['shutdown', 'power off\n'],
    ] as const) {
      rmSync(join(folder, 'ran'), { force: true })
      const { power, ran } = machine(folder)
      assert.equal(power.pending, undefined)
      const { outcome } = power.request(action)
      assert.equal(ran(), '', 'not before the caller can answer')
      assert.equal(power.pending, action)
      assert.deepEqual(await outcome, { action, state: 'started' })
      assert.equal(ran(), line)
      assert.equal(power.pending, action, 'nothing else may begin any more')
    }
  })
})

test('the same request twice runs once, the other is refused', async () => {
  await withFolder(async (folder) => {
    const { power, ran } = machine(folder)
    const [first, second] = [power.request('reboot'), power.request('reboot')]
    assert.throws(() => power.request('shutdown'), { code: 'POWER_BUSY', status: 500 })
    assert.deepEqual(await first.outcome, await second.outcome)
    assert.equal(ran(), 'reboot\n')
  })
})

test('a dry run does all but the command', async () => {
  await withFolder(async (folder) => {
    const { power, ran } = machine(folder, 0, { dryRun: true })
    assert.deepEqual(await power.request('reboot').outcome, { action: 'reboot', state: 'dry-run' })
    assert.deepEqual([ran(), power.pending], ['', undefined])
  })
})

test('a command that fails is said, and can be tried again', async () => {
  await withFolder(async (folder) => {
    const { power } = machine(folder, 3)
    const { state, problem } = await power.request('shutdown').outcome
    assert.equal(state, 'failed')
    assert.match(problem ?? '', /^Cannot start the shutdown: ".*" ended with exit status 3: why$/)
    assert.equal(power.pending, undefined)
    const missing = new Power({
      commands: { reboot: ['/nonexistent/reboot'], shutdown: [] },
      delayMs: 0,
    })
    assert.deepEqual(await missing.request('reboot').outcome, {
      action: 'reboot',
      state: 'failed',
      problem: 'Cannot start the reboot: "/nonexistent/reboot" is not installed',
    })
    assert.equal((await missing.request('shutdown').outcome).state, 'failed')
  })
})

test('what was not started is called off at the stop', async () => {
  await withFolder(async (folder) => {
    const { power, ran } = machine(folder, 0, { delayMs: 3_600_000 })
    power.stop()
    const { outcome } = power.request('reboot')
    power.stop()
    assert.deepEqual(await outcome, { action: 'reboot', state: 'cancelled' })
    assert.deepEqual([ran(), power.pending], ['', undefined])
  })
})

test('an update of the host system is waited for, unless forced', async () => {
  await withFolder(async (folder) => {
    const { power } = machine(folder, 0, { breadcrumbFolder: folder })
    await power.assertAllowed(false)
    for (const name of ['rollback-health-breadcrumb', 'rollback-altboot-breadcrumb']) {
      symlinkSync('/nonexistent', join(folder, name))
      await assert.rejects(power.assertAllowed(false), (error) => {
        assert.ok(error instanceof HostError)
        assert.equal(error.message, 'Waiting for Host OS update to finish')
        assert.deepEqual([error.status, error.code], [423, 'HOST_UPDATE_PENDING'])
        return true
      })
      await power.assertAllowed(true)
      unlinkSync(join(folder, name))
    }
    await machine(folder).power.assertAllowed(false)
    const { power: nowhere } = machine(folder, 0, { breadcrumbFolder: join(folder, 'none') })
    await nowhere.assertAllowed(false)
  })
})

test('the light goes on and off, and ends off', async () => {
  await withFolder(async (folder) => {
    const file = join(folder, 'brightness')
    writeFileSync(file, '')
    await new Led({ file, pulseMs: 1, durationMs: 30 }).blink()
    assert.match(readFileSync(file, 'utf8'), /^(10)+$/)
  })
})

test('blinking is seen as it goes, lengthened by a second request, and can be stopped', async () => {
  await withFolder(async (folder) => {
    // A FIFO shows each write to its reader as it is made.
    const file = join(folder, 'brightness')
    execFileSync('mkfifo', [file])
    const reader = spawn('cat', [file], { stdio: ['ignore', 'pipe', 'inherit'] })
    const led = new Led({ file, pulseMs: 1, durationMs: 3_600_000 })
    let seen = ''
    const enough = new Promise<void>((resolve) => {
      reader.stdout.on('data', (chunk) => {
        seen += chunk
        if (seen.length >= 6) resolve()
      })
    })
    const closed = new Promise((resolve) => reader.once('close', resolve))
    // Nobody blinks a FIFO before it is read: the first tries show nothing.
    const latest = performance.now() + 10_000
    while (seen === '') {
      assert.ok(performance.now() < latest, 'the light did not blink within 10 s')
      const first = led.blink()
      const running = await Promise.race([enough.then(() => true), first.then(() => false)])
      if (!running) await new Promise((resolve) => setTimeout(resolve, 5))
    }
    assert.equal(led.blink(), led.blink(), 'one pattern at a time')
    await led.stop()
    await closed
    assert.match(seen, /^(10)+$/)
    await led.stop()
  })
})

test('a missing light shows nothing, is not made, and does not hang', async () => {
  await withFolder(async (folder) => {
    const file = join(folder, 'leds/led0/brightness')
    await new Led({ file }).blink()
    assert.equal(existsSync(join(folder, 'leds')), false)
    await new Led({ file: join(folder, 'brightness') }).blink()
    assert.equal(existsSync(join(folder, 'brightness')), false)
    await new Led({ file: folder }).blink()
    execFileSync('mkfifo', [join(folder, 'fifo')])
    await new Led({ file: join(folder, 'fifo') }).blink()
  })
})
