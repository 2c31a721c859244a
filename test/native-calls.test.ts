import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Addon } from '../src/device/native-transport.ts'
import { DeviceError } from '../src/device/transport.ts'
import { REGISTERS, TSM, testAddon } from './native/test-addon.ts'
import { checkTransport, fails } from './native/transport-contract.ts'

test('the addon does what a transport does', async (t) => {
  const addon = testAddon(t)
  if (!addon) return
  t.after(addon.remove)
  assert.equal(addon.transport.kind, 'native')
  await checkTransport(addon.transport, addon)
})

test('the ioctls have the numbers, lengths and layouts of the kernel', async (t) => {
  const addon = testAddon(t)
  if (!addon) return
  t.after(addon.remove)
  const { transport } = addon
  const reportData = Uint8Array.from({ length: 64 }, (_, i) => i)
  const report = await transport.ioctl('/dev/tdx_guest', 'tdreport', reportData)
  const expected = Uint8Array.from({ length: 1024 }, (_, i) => ~(i % 64))
  assert.deepEqual(new Uint8Array(report), expected)
  for (const length of [1, 2, 4096]) {
    const request = new Uint8Array(length).fill(0x5a)
    assert.deepEqual(new Uint8Array(await transport.ioctl('/dev/nsm', 'nsm', request)), request)
  }
  const tooLong = await transport.ioctl('/dev/nsm', 'nsm', Uint8Array.of(0xf0))
  assert.equal(tooLong.length, 12_288)
  for (const [errno, code] of [
    [4, 'EINTR'],
    [16, 'EBUSY'],
    [90, 'EMSGSIZE'],
    [110, 'ETIMEDOUT'],
    [255, 'E255'],
  ] as const) {
    const answer = transport.ioctl('/dev/nsm', 'nsm', Uint8Array.of(0xe0, errno))
    await fails(answer, code, 'ioctl', '/dev/nsm')
  }
})

test('a lock keeps others out until it is released, once', async (t) => {
  const addon = testAddon(t)
  if (!addon) return
  t.after(addon.remove)
  const { transport } = addon
  const path = `${TSM}/com.intel.dcap/inblob`
  addon.put(path)
  const free = () => spawnSync('flock', ['-n', join(addon.root, path), 'true']).status === 0
  const release = await transport.lock(path)
  assert.equal(free(), false)
  let second = false
  const next = transport.lock(path).then((releaseNext) => {
    second = true
    return releaseNext
  })
  // The holder's own calls go on while another of this process waits.
  await transport.write(path, Uint8Array.of(1))
  assert.equal(second, false)
  await Promise.all([release(), release()])
  const releaseNext = await next
  assert.equal(free(), false)
  await release()
  assert.equal(free(), false)
  await releaseNext()
  assert.equal(free(), true)
  const held = await Promise.all(
    Array.from({ length: 16 }, (_, i) => {
      addon.put(`${TSM}/e/${i}`)
      return transport.lock(`${TSM}/e/${i}`)
    }),
  )
  await fails(transport.lock(path), 'ENOLCK', 'lock', path)
  await Promise.all(held.map((unlock) => unlock()))
  assert.equal(free(), true)
})

test('a write is one write, and what closing says counts', async (t) => {
  const addon = testAddon(t)
  if (!addon) return
  t.after(addon.remove)
  const { transport, put } = addon
  for (const [name, code] of [
    ['short', 'EIO'],
    ['close-fails', 'EBUSY'],
  ] as const) {
    put(`${TSM}/x/${name}`)
    const path = `${TSM}/x/${name}`
    await fails(transport.write(path, new Uint8Array(10)), code, 'write', path)
  }
  assert.equal(readFileSync(join(addon.root, TSM, 'x/short')).length, 9)
})

test('opening is tried again when interrupted, but not for ever', async (t) => {
  const addon = testAddon(t)
  if (!addon) return
  t.after(addon.remove)
  addon.put(`${TSM}/x/interrupted-twice`, 'ab')
  const bytes = await addon.transport.read(`${TSM}/x/interrupted-twice`, 2)
  assert.equal(Buffer.from(bytes).toString(), 'ab')
  const path = `${TSM}/x/interrupted`
  await fails(addon.transport.read(path, 2), 'EINTR', 'read', path)
})

test('each path allows its own operations only', async (t) => {
  const addon = testAddon(t)
  if (!addon) return
  t.after(addon.remove)
  const { transport } = addon
  const bytes = new Uint8Array(48)
  const refused: [string, string, Promise<unknown>][] = [
    ['read', '/dev/nsm', transport.read('/dev/nsm', 1)],
    ['write', '/dev/nsm', transport.write('/dev/nsm', bytes)],
    ['ioctl', '/dev/nsm', transport.ioctl('/dev/nsm', 'tdreport', new Uint8Array(64))],
    ['ioctl', '/dev/tdx_guest', transport.ioctl('/dev/tdx_guest', 'nsm', bytes)],
    ['mkdir', TSM, transport.mkdir(TSM)],
    ['rmdir', TSM, transport.rmdir(TSM)],
    ['mkdir', `${TSM}/a/b`, transport.mkdir(`${TSM}/a/b`)],
    ['write', `${TSM}/a`, transport.write(`${TSM}/a`, bytes)],
    ['write', `${REGISTERS}/mrtd:sha384`, transport.write(`${REGISTERS}/mrtd:sha384`, bytes)],
    ['write', `${REGISTERS}/rtmr1:sha384`, transport.write(`${REGISTERS}/rtmr1:sha384`, bytes)],
    ['lock', `${REGISTERS}/rtmr3:sha384`, transport.lock(`${REGISTERS}/rtmr3:sha384`)],
    ['write', '/proc/meminfo', transport.write('/proc/meminfo', bytes)],
    ['list', '/proc', transport.list('/proc')],
    ['stat', '/', transport.stat('/')],
    ['stat', '', transport.stat('')],
  ]
  for (const [operation, path, answer] of refused) await fails(answer, 'EACCES', operation, path)
})

/** Paths near the ones that are allowed. */
const nearPath = fc
  .tuple(
    fc.constantFrom(
      ...['/dev/nsm', '/dev/tdx_guest', TSM, `${TSM}/x`, `${TSM}/x/y`, REGISTERS],
      ...['/sys/firmware/acpi/tables', '/sys/bus/pci/devices', '/proc', '/sys/class/dmi/id', ''],
    ),
    fc.oneof(
      fc.constantFrom('', '/', '/.', '/..', '/../../secret', '//', '\0', '/x\0/../../y', '/\u00e9'),
      fc.constantFrom(
        'x',
        '/x',
        '/x/y/z',
        '/../nsm',
        '/%2e%2e/y',
        '\\..\\y',
        `/${'y'.repeat(500)}`,
      ),
      fc.string({ maxLength: 12 }),
      fc.string({ unit: 'binary', maxLength: 12 }),
    ),
    fc.nat(),
    fc.constantFrom('', '/', '.', '..', '\0', '*'),
  )
  .map(([path, more, at, inside]) => {
    const whole = path + more
    const cut = at % (whole.length + 1)
    return whole.slice(0, cut) + inside + whole.slice(cut)
  })

test('nothing outside the list is ever touched', async (t) => {
  const addon = testAddon(t)
  if (!addon) return
  t.after(addon.remove)
  const { transport, root } = addon
  addon.put('/secret', 'secret')
  addon.put('/sys/secret', 'secret')
  const outside = () =>
    readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((name) => !`/${name}`.startsWith(`${TSM}/`))
      .sort()
  const before = outside()
  await fc.assert(
    fc.asyncProperty(nearPath, async (path) => {
      const calls = [
        transport.read(path, 100),
        transport.write(path, Uint8Array.of(1)),
        transport.mkdir(path),
        transport.list(path),
        transport.stat(path),
        transport.rmdir(path),
      ]
      for (const result of await Promise.allSettled(calls)) {
        if (result.status === 'rejected') assert.ok(result.reason instanceof DeviceError)
        else assert.ok(!String(result.value).includes(String(Buffer.from('secret'))))
      }
      const normal = path
        .split('/')
        .every((s, i) => (i === 0 ? s === '' : /^(?!\.\.?$)[!-~]+$/.test(s)))
      if (normal && path.length <= 512) return
      for (const result of await Promise.allSettled(calls)) {
        assert.equal(result.status === 'rejected' && result.reason.code, 'EACCES')
      }
    }),
    { numRuns: 2000 },
  )
  assert.deepEqual(outside(), before)
})

test('a wrong call is a TypeError, and never more than that', async (t) => {
  const addon = testAddon(t)
  if (!addon) return
  t.after(addon.remove)
  // The addon by itself lets the process end whatever it is doing.
  const hold = setInterval(() => {}, 1000)
  t.after(() => clearInterval(hold))
  const module = { exports: {} as Record<string, (...args: unknown[]) => Promise<unknown>> }
  process.dlopen(module, addon.file)
  const names = Object.keys(module.exports)
  assert.deepEqual(names.sort(), [...NAMES].sort())
  const path = fc.constantFrom(
    ...['/dev/nsm', '/dev/tdx_guest', `${TSM}/x/y`, '/proc/meminfo', TSM],
  )
  const anything = fc.oneof(
    path,
    fc.anything({ withTypedArray: true, withBigInt: true, withDate: true, withSparseArray: true }),
    fc.constantFrom(
      Number.NaN,
      -1,
      0.5,
      2 ** 32,
      2 ** 53,
      Number.POSITIVE_INFINITY,
      -0,
      16_777_217,
    ),
    fc.constantFrom(1, 64, 1024).map((length) => new Uint8Array(length)),
    fc.constantFrom(Symbol('s'), () => 1, new Uint16Array(32), new DataView(new ArrayBuffer(64))),
    fc.constant(new Uint8Array(4097)),
    fc.constant(new Proxy(new Uint8Array(64), {})),
  )
  const args = fc.oneof(fc.array(anything, { maxLength: 4 }), fc.tuple(path, anything))
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...names), args, async (name, given) => {
      // A lock of a path stays with it, and the next one would wait for ever.
      fc.pre(name !== 'lock')
      try {
        await module.exports[name]?.(...given)
      } catch (error) {
        assert.ok(error instanceof Error)
        const { code } = error as Error & { code?: unknown }
        if (error instanceof TypeError) assert.equal(code, 'ERR_INVALID_ARG_VALUE')
        else assert.match(String(code), /^E[A-Z0-9]+$/)
      }
    }),
    { numRuns: 3000 },
  )
  const addonCalls = module.exports as unknown as Addon
  assert.throws(() => addonCalls.read('/proc/meminfo', 2 ** 24 + 1), TypeError)
  assert.throws(() => addonCalls.write(`${TSM}/x/y`, new Uint8Array(4097)), TypeError)
  assert.throws(() => addonCalls.tdreport('/dev/tdx_guest', new Uint8Array(63)), TypeError)
  assert.throws(() => addonCalls.nsm('/dev/nsm', new Uint8Array(0)), TypeError)
  assert.equal(await addonCalls.stat('/proc/meminfo'), 'file')
  await fails(addon.transport.read('/proc/meminfo', -1), 'EINVAL', 'read', '/proc/meminfo')
})

const NAMES = [
  'stat',
  'list',
  'read',
  'write',
  'mkdir',
  'rmdir',
  'tdreport',
  'nsm',
  'lock',
  'unlock',
  'peer',
]

test('what a call was given may change as soon as it is made', async (t) => {
  const addon = testAddon(t)
  if (!addon) return
  t.after(addon.remove)
  const request = new Uint8Array(100).fill(1)
  const answer = addon.transport.ioctl('/dev/nsm', 'nsm', request)
  request.fill(2)
  assert.deepEqual(new Uint8Array(await answer), new Uint8Array(100).fill(1))
  // A part of a larger buffer is that part.
  const part = new Uint8Array([9, 8, 7, 6]).subarray(1, 3)
  const echo = await addon.transport.ioctl('/dev/nsm', 'nsm', part)
  assert.deepEqual(new Uint8Array(echo), Uint8Array.of(8, 7))
})
