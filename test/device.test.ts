import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { NSM, TDX_GUEST, TDX_MEASUREMENTS, TSM_REPORT } from '../src/device/paths.ts'
import { type ProbeOptions, probe } from '../src/device/probe.ts'
import { DeviceError } from '../src/device/transport.ts'
import { type Fault, SimulatedTransport } from '../src/simulate/machine.ts'
import { folder } from '../src/simulate/nodes.ts'
import { createSimulator } from '../src/simulate/simulator.ts'
import { at, stepOf, TdxGuest } from './fakes/tdx-guest.ts'
import { freshFolder, runCvmd } from './helpers/daemon.ts'

/** A folder that stands for a machine with these files. */
function machineTree(files: Readonly<Record<string, string>>): string {
  const root = freshFolder()
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, file)), { recursive: true })
    writeFileSync(join(root, file), content)
  }
  return root
}

/** What is found without requirements of any plugin. */
async function machineOf(options: ProbeOptions & { readonly root?: string }) {
  return await probe(options.root ?? '/', [], options)
}

async function states(options: Parameters<typeof machineOf>[0]) {
  const { probes } = await machineOf(options)
  const relevant = probes.filter(({ capability }) => capability !== 'gpu')
  return Object.fromEntries(relevant.map(({ capability, state }) => [capability, state]))
}

const NOTHING = { tdx: 'absent', tsm: 'absent', nsm: 'absent' }

test('probe: an empty machine has nothing, and says what each means', async () => {
  const machine = await machineOf({ root: machineTree({}) })
  for (const found of machine.probes) {
    assert.equal(found.state, 'absent', found.capability)
    assert.equal(found.errno, 'ENOENT')
    assert.ok(found.remedy, found.capability)
  }
  assert.equal(machine.tdx, undefined)
  const why = machine.explain({ any: ['tdx', 'nsm'] })
  assert.match(why, /tdx_guest does not exist; .*report does not exist; .*nsm does not exist/)
})

test('probe: in a folder that stands for a machine, files stand for devices', async () => {
  const provider = `${TSM_REPORT}/any-name/provider`
  const tdx = machineTree({ [TDX_GUEST]: '', [provider]: 'tdx_guest\n' })
  assert.deepEqual(await states({ root: tdx }), { tdx: 'present', tsm: 'present', nsm: 'absent' })
  const amd = machineTree({ [provider]: 'sev_guest\n' })
  assert.deepEqual(await states({ root: amd }), { ...NOTHING, tsm: 'present' })
  const bare = machineTree({ [`${TSM_REPORT}/any-name/generation`]: '0\n' })
  assert.deepEqual(await states({ root: bare }), NOTHING, 'a folder alone proves nothing')
  assert.equal((await states({ root: machineTree({ [NSM]: '' }) })).nsm, 'present')
  const gpu = await machineOf({
    root: machineTree({ '/sys/bus/pci/devices/0/class': '0x030200\n' }),
  })
  assert.equal(gpu.has('gpu'), true)
  const own = await probe(machineTree({ '/dev/sev-guest': '' }), ['path:/dev/sev-guest'])
  assert.equal(own.has('path:/dev/sev-guest'), true)
})

test('probe: requirements combine', async () => {
  const machine = await machineOf({ root: machineTree({ [NSM]: '' }) })
  assert.equal(machine.has({ any: ['tdx', 'nsm'] }), true)
  assert.equal(machine.has({ all: ['tdx', 'nsm'] }), false)
  assert.equal(machine.has({ all: ['nsm', { any: ['tdx', 'nsm'] }] }), true)
  assert.equal(machine.path('/dev/nsm'), join(machine.root, 'dev/nsm'))
})

test('probe: a TDX guest proves what it can, and nothing is left behind', async () => {
  const guest = new TdxGuest()
  const machine = await machineOf({ transport: guest.transport })
  assert.deepEqual(machine.tdx, { canQuote: true, canReport: true, canExtend: true })
  assert.deepEqual(
    [machine.has('tdx'), machine.has('tsm'), machine.has('nsm')],
    [true, true, false],
  )
  assert.deepEqual(guest.entries, [])
  assert.equal(machine.transport, guest.transport)
  assert.equal(machine.noNative, undefined)
})

test('probe: an enclave proves itself by DescribeNSM', async () => {
  const { transport } = await createSimulator({ platform: 'nitro' })
  assert.deepEqual(await states({ transport }), { ...NOTHING, nsm: 'present' })
  const silent: Fault = ({ operation }) => (operation === 'ioctl' ? 'EIO' : undefined)
  const broken = await createSimulator({ platform: 'nitro', fault: silent })
  const { probes } = await machineOf({ transport: broken.transport })
  const nsm = probes.find(({ capability }) => capability === 'nsm')
  assert.equal(nsm?.state, 'unknown')
  assert.equal(nsm?.errno, 'EIO')
  assert.equal(nsm?.tried, 'ioctl DescribeNSM')
})

test('probe: a file in place of a device is none', async () => {
  const file = { kind: 'file', read: () => new Uint8Array() } as const
  const root = folder({ dev: folder({ nsm: file, tdx_guest: file }) })
  const transport = new SimulatedTransport(root)
  assert.deepEqual(await states({ transport }), NOTHING)
  const { probes } = await machineOf({ transport })
  const nsm = probes.find(({ capability }) => capability === 'nsm')
  assert.equal(nsm?.meaning, '/dev/nsm is no character device')
})

test('probe: the report folder without a provider is not TDX', async () => {
  const { transport } = new TdxGuest(at('mkdir', 'ENXIO'))
  const reports = (await machineOf({ transport })).tdxFindings?.reports
  assert.equal(reports?.state, 'absent')
  assert.equal(reports?.errno, 'ENXIO')
  assert.match(reports?.meaning ?? '', /nothing provides reports/)
})

test('probe: reports of another platform are not quotes of TDX', async () => {
  const guest = new TdxGuest(({ operation, path }) => {
    if (path.endsWith('/provider')) return Buffer.from('sev_guest\n')
    return operation === 'ioctl' || path.startsWith(TDX_MEASUREMENTS) ? 'ENOENT' : undefined
  })
  const machine = await machineOf({ transport: guest.transport })
  assert.equal(machine.has('tsm'), true)
  assert.equal(machine.has('tdx'), false)
  assert.equal(machine.tdx, undefined)
})

test('probe: TDX without quotes still is TDX, and says why there are none', async () => {
  const guest = new TdxGuest((call) => (call.path.startsWith(TSM_REPORT) ? 'ENOENT' : undefined))
  const machine = await machineOf({ transport: guest.transport })
  assert.deepEqual(machine.tdx, { canQuote: false, canReport: true, canExtend: true })
  const tdx = machine.probes.find(({ capability }) => capability === 'tdx')
  assert.match(tdx?.meaning ?? '', /TDREPORTs are made, but no quotes: .*report does not exist/)
  assert.match(tdx?.remedy ?? '', /mount configfs/)
})

test('probe: TDX before Linux 6.16 cannot extend registers', async () => {
  const old: Fault = ({ path }) => (path.startsWith(TDX_MEASUREMENTS) ? 'ENOENT' : undefined)
  const { tdx, tdxFindings } = await machineOf({ transport: new TdxGuest(old).transport })
  assert.deepEqual(tdx, { canQuote: true, canReport: true, canExtend: false })
  assert.match(tdxFindings?.registers.remedy ?? '', /Linux 6\.16/)
})

test('probe: what may not be looked at is unknown, not absent', async () => {
  for (const errno of ['EACCES', 'EPERM', 'EROFS', 'EIO', 'ENOTSUP'] as const) {
    const guest = new TdxGuest(({ operation }) => (operation === 'stat' ? undefined : errno))
    const machine = await machineOf({ transport: guest.transport })
    for (const capability of ['tdx', 'tsm']) {
      const found = machine.probes.find((item) => item.capability === capability)
      assert.equal(found?.state, 'unknown', `${capability} after ${errno}`)
      assert.ok(found?.remedy)
    }
    assert.equal(machine.has('tdx'), false)
  }
})

test('probe: a refusal of the runtime names the command that prints its flags', async () => {
  const refusal = new Error('Requires all access')
  refusal.name = 'NotCapable'
  const transport = new SimulatedTransport(folder({}))
  transport.stat = (path) =>
    Promise.reject(new DeviceError('EPERM', 'stat', path, { cause: refusal }))
  const { probes } = await machineOf({ transport })
  const nsm = probes.find(({ capability }) => capability === 'nsm')
  assert.equal(nsm?.state, 'unknown')
  assert.match(nsm?.remedy ?? '', /cvmd permissions --deno/)
})

test('probe: a driver that hangs is unknown, holds nothing up, and is cleared up after', async () => {
  let release = () => {}
  const released = new Promise<undefined>((resolve) => {
    release = () => resolve(undefined)
  })
  const guest = new TdxGuest((call) => (stepOf(call) === 'read provider' ? released : undefined))
  const machine = await machineOf({ transport: guest.transport, timeoutMs: 50 })
  const tsm = machine.probes.find(({ capability }) => capability === 'tsm')
  assert.equal(tsm?.state, 'unknown')
  assert.equal(tsm?.errno, 'ETIMEDOUT')
  assert.equal(tsm?.meaning, `${TSM_REPORT} did not answer within 50 ms`)
  assert.deepEqual(machine.tdx, { canQuote: false, canReport: true, canExtend: true })
  assert.equal(guest.entries.length, 1)
  release()
  while (guest.entries.length > 0) await new Promise((resolve) => setTimeout(resolve, 1))
})

test('probe: on reload, no answer in time leaves what was known', async () => {
  const guest = new TdxGuest()
  const previous = await machineOf({ transport: guest.transport })
  // As while a quote is in the making: nobody may look at the report tree.
  guest.fault = ({ path }) => (path.startsWith(TSM_REPORT) ? 'hang' : undefined)
  const options = { transport: guest.transport, timeoutMs: 50 }
  const machine = await machineOf({ ...options, previous })
  assert.deepEqual(machine.tdx, previous.tdx)
  assert.deepEqual(machine.tdxFindings, previous.tdxFindings)
  // An answer, whatever it is, counts.
  guest.fault = ({ path }) => (path.startsWith(TSM_REPORT) ? 'ENOENT' : undefined)
  assert.equal((await machineOf({ ...options, previous })).tdx?.canQuote, false)
})

test('cvmd doctor prints every probe', async () => {
  const root = machineTree({ [NSM]: '' })
  const text = await runCvmd(['doctor', '--root', root])
  assert.equal(text.status, 0, text.stderr)
  assert.match(text.stdout, /nsm +present +\/dev\/nsm\n/)
  assert.match(text.stdout, /tried: stat\n +ENOENT: \/dev\/tdx_guest does not exist.*\n +remedy: /)
  assert.match(text.stdout, /by files calls, not natively: the folder ".*" stands for the machine/)
  const { stdout } = await runCvmd(['doctor', '--root', root, '--json'])
  const report = JSON.parse(stdout) as {
    devices: { transport: string; noNative: { reason: string } }
    probes: { capability: string; state: string }[]
    tdx: { registers: { state: string } }
  }
  assert.deepEqual(
    report.probes.map((found) => `${found.capability} ${found.state}`),
    ['tdx absent', 'tsm absent', 'nsm present', 'gpu absent', 'path:/var/run/docker.sock absent'],
  )
  assert.equal(report.devices.transport, 'files')
  assert.match(report.devices.noNative.reason, /stands for the machine/)
  assert.equal(report.tdx.registers.state, 'absent')
  rmSync(root, { recursive: true })
})
