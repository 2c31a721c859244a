import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { resolve } from 'node:path'
import { describe, it } from 'node:test'
import { runtime } from '../src/runtime.ts'
import { afterTest, cleanAfterEach } from './helpers/after-test.ts'
import {
  eventually,
  type MachineRoom,
  machineRoom,
  machineTask,
  runs,
} from './helpers/zos-hypervisor.ts'

/** A daemon of its own that provisions the machine. */
function daemon(room: MachineRoom): { child: ChildProcess; output(): string } {
  const script = resolve('test/helpers/zos-hypervisor-daemon.ts')
  const args = {
    node: ['--import', 'tsx', script],
    bun: ['--no-install', script],
    deno: ['run', '-A', '--no-check', '--quiet', script],
  }[runtime]
  const env = { ...process.env, MACHINE_OPTIONS: JSON.stringify(room.options) }
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  afterTest(() => child.kill('SIGKILL'))
  let text = ''
  child.stdout.on('data', (data) => {
    text += data
  })
  return { child, output: () => text }
}

/** Kills it as `kill -9` does, and waits for its end. */
function kill(child: ChildProcess): Promise<void> {
  return new Promise((done) => {
    child.once('exit', () => done())
    child.kill('SIGKILL')
  })
}

describe('a daemon that is killed', () => {
  cleanAfterEach()

  it('leaves its machines running, for the next one to take over', async () => {
    const room = machineRoom()
    const { child, output } = daemon(room)
    await eventually(`the machine runs: ${output()}`, () => output().includes('ready'))
    await kill(child)
    const [pid = 0] = room.started()
    assert.ok(runs(pid))
    const driver = room.driver()
    const task = machineTask(room)
    await driver.provision(task)
    assert.deepEqual(room.started(), [pid])
    // Its end is noticed although it is no child of this process.
    const stop = new AbortController()
    const crashed = new Promise<string>((told) => {
      void driver.watch?.((crash) => told(crash.reason), stop.signal)
    })
    process.kill(pid, 'SIGKILL')
    assert.match(await crashed, /^machine ended: its hypervisor is gone; /)
    stop.abort()
    await driver.deprovision(task)
  })

  for (const moment of ['vmm.ping', 'vm.create', 'vm.boot'] as const) {
    it(`has begun a machine up to ${moment}, which the next one starts anew`, async () => {
      const room = machineRoom()
      room.control({ [moment]: { do: 'hang' } })
      const { child } = daemon(room)
      const asked = new RegExp(`${moment.replace('.', '\\.')}$`)
      await eventually(`${moment} is asked`, () => room.requests().some((line) => asked.test(line)))
      await kill(child)
      room.control({})
      const driver = room.driver()
      const task = machineTask(room)
      await driver.provision(task)
      const [first = 0, second = 0, ...others] = room.started()
      assert.deepEqual(others, [])
      assert.equal(runs(first), false)
      assert.ok(runs(second))
      await driver.deprovision(task)
      assert.equal(runs(second), false)
    })
  }

  it('has begun a machine that does not even listen', async () => {
    const room = machineRoom()
    room.control({ start: 'mute', deaf: true })
    const { child } = daemon(room)
    await eventually('the hypervisor was started', () => room.started().length > 0)
    await kill(child)
    room.control({})
    const driver = room.driver()
    await driver.deprovision(machineTask(room))
    assert.equal(runs(room.started()[0] ?? 0), false)
  })
})
