import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { extended, replay } from '../src/attest/replay.ts'
import { RuntimeEventLog, type RuntimeRegister } from '../src/attester/runtime-events.ts'
import { DeviceError } from '../src/device/transport.ts'

/** A register in memory, and what goes wrong with it. */
class Register implements RuntimeRegister {
  readonly unsupported: string | undefined = undefined
  value: Uint8Array = new Uint8Array(48)
  /** Called in place of the device; it may extend, throw, or both. */
  fault: ((extend: () => void) => void) | undefined

  async extend(digest: Uint8Array): Promise<void> {
    const work = () => {
      this.value = extended(this.value, digest)
    }
    if (this.fault) this.fault(work)
    else work()
  }

  async read(): Promise<Uint8Array> {
    return this.value
  }
}

const text = (value: string) => new TextEncoder().encode(value)

async function inFolder(work: (file: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  try {
    await work(join(folder, 'log', 'runtime_events.log'))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

test('events are extended, logged, and replay to the register', () =>
  inFolder(async (file) => {
    const register = new Register()
    const log = new RuntimeEventLog(register, file)
    await Promise.all(['one', 'two', 'three'].map((name) => log.emit(name, text(name))))
    const entries = await log.list()
    assert.deepEqual(
      entries.map(({ event }) => event),
      ['one', 'two', 'three'],
    )
    assert.deepEqual([...replay(entries)[3]], [...register.value])
    // The form dstack's own agent writes.
    assert.equal(readFileSync(file, 'utf8').split('\n')[0], '{"event":"one","payload":"b25l"}')
  }))

test('a restart goes on where the log ends', () =>
  inFolder(async (file) => {
    const register = new Register()
    await new RuntimeEventLog(register, file).emit('one', text('1'))
    const again = new RuntimeEventLog(register, file)
    await again.emit('two', text('2'))
    const entries = await again.list()
    assert.equal(entries.length, 2)
    assert.deepEqual([...replay(entries)[3]], [...register.value])
  }))

test('a register that something else extended takes no event', () =>
  inFolder(async (file) => {
    const register = new Register()
    register.value = extended(register.value, new Uint8Array(48))
    const log = new RuntimeEventLog(register, file)
    await assert.rejects(log.emit('one', text('1')), { code: 'EVENTS_OUT_OF_STEP', status: 503 })
    assert.deepEqual(await log.list(), [])
  }))

test('a device that failed without extending leaves all as it was', () =>
  inFolder(async (file) => {
    const register = new Register()
    const log = new RuntimeEventLog(register, file)
    register.fault = () => {
      throw new DeviceError('EIO', 'write', '/rtmr3')
    }
    await assert.rejects(log.emit('one', text('1')), { code: 'DEVICE_FAILED', status: 502 })
    register.fault = undefined
    await log.emit('two', text('2'))
    assert.deepEqual([...replay(await log.list())[3]], [...register.value])
  }))

test('a device that extended and then failed counts as having extended', () =>
  inFolder(async (file) => {
    const register = new Register()
    const log = new RuntimeEventLog(register, file)
    register.fault = (extend) => {
      extend()
      throw new DeviceError('EFBIG', 'write', '/rtmr3')
    }
    await log.emit('one', text('1'))
    assert.deepEqual([...replay(await log.list())[3]], [...register.value])
  }))

test('once the register is not known, no event is taken', () =>
  inFolder(async (file) => {
    const register = new Register()
    const log = new RuntimeEventLog(register, file)
    register.fault = () => {
      register.value = new Uint8Array(48).fill(7)
      throw new DeviceError('EIO', 'write', '/rtmr3')
    }
    await assert.rejects(log.emit('one', text('1')), { code: 'DEVICE_FAILED' })
    register.fault = undefined
    await assert.rejects(log.emit('two', text('2')), { code: 'EVENTS_OUT_OF_STEP' })
  }))

test('an event that cannot be logged stops all further ones', () =>
  inFolder(async (file) => {
    const register = new Register()
    // A file stands where the folder belongs.
    writeFileSync(join(file, '..'), '')
    const log = new RuntimeEventLog(register, file)
    await assert.rejects(log.emit('one', text('1')), { code: 'EVENTS_OUT_OF_STEP' })
    await assert.rejects(log.emit('two', text('2')), { code: 'EVENTS_OUT_OF_STEP' })
  }))

test('a damaged log takes no event and says where', () =>
  inFolder(async (file) => {
    const register = new Register()
    await new RuntimeEventLog(register, file).emit('one', text('1'))
    writeFileSync(file, '{"event":"one"}\n')
    await assert.rejects(new RuntimeEventLog(register, file).emit('two', text('2')), {
      code: 'EVENTS_OUT_OF_STEP',
      message: /line 1 of ".*" has no event and payload/,
    })
  }))

test('names and payloads have limits', () =>
  inFolder(async (file) => {
    const log = new RuntimeEventLog(new Register(), file)
    await assert.rejects(log.emit('', text('')), { code: 'EVENT_NAME' })
    await assert.rejects(log.emit('x'.repeat(1025), text('')), { code: 'EVENT_NAME' })
    await assert.rejects(log.emit('x', new Uint8Array(65_537)), { code: 'EVENT_PAYLOAD' })
    await log.emit('x'.repeat(1024), new Uint8Array(65_536))
  }))
