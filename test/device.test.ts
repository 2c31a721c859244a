import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { probe } from '../src/device/probe.ts'
import { freshFolder, runCvmd } from './helpers/daemon.ts'

/** A folder that stands for a machine with these files. */
function machineTree(...files: readonly string[]): string {
  const root = freshFolder()
  for (const file of files) {
    mkdirSync(dirname(join(root, file)), { recursive: true })
    writeFileSync(join(root, file), file.endsWith('class') ? '0x030200\n' : '')
  }
  return root
}

async function states(root: string, ...requirements: Parameters<typeof probe>[1]) {
  const machine = await probe(root, requirements)
  return Object.fromEntries(machine.probes.map((p) => [p.capability, p.state]))
}

test('an empty machine has nothing, and says what each means', async () => {
  const machine = await probe(machineTree(), [])
  for (const found of machine.probes) {
    assert.equal(found.state, 'absent', found.capability)
    assert.equal(found.errno, 'ENOENT')
    assert.ok(found.remedy, found.capability)
  }
  assert.match(machine.explain({ any: ['tdx', 'nsm'] }), /tdx-guest does not exist; .*nsm does/)
})

test('each device is found at its path below the root', async () => {
  const tdx = machineTree('/dev/tdx_guest', '/sys/kernel/config/tsm/report/x')
  assert.deepEqual(await states(tdx), {
    tdx: 'present',
    tsm: 'present',
    nsm: 'absent',
    gpu: 'absent',
  })
  assert.equal((await states(machineTree('/dev/tdx-guest'))).tdx, 'present')
  assert.equal((await states(machineTree('/dev/nsm'))).nsm, 'present')
  const gpu = machineTree('/sys/bus/pci/devices/0000:01:00.0/class')
  assert.equal((await states(gpu)).gpu, 'present')
  const own = await states(machineTree('/dev/sev-guest'), 'path:/dev/sev-guest')
  assert.equal(own['path:/dev/sev-guest'], 'present')
  assert.equal((await states(machineTree('/sys/kernel/config/tsm/report'))).tsm, 'absent')
})

test('requirements combine', async () => {
  const machine = await probe(machineTree('/dev/nsm'), [])
  assert.equal(machine.has({ any: ['tdx', 'nsm'] }), true)
  assert.equal(machine.has({ all: ['tdx', 'nsm'] }), false)
  assert.equal(machine.has({ all: ['nsm', { any: ['gpu', 'nsm'] }] }), true)
  assert.equal(machine.path('/dev/nsm'), join(machine.root, 'dev/nsm'))
})

test('cvmd doctor prints every probe', async () => {
  const root = machineTree('/dev/nsm')
  const text = await runCvmd(['doctor', '--root', root])
  assert.equal(text.status, 0, text.stderr)
  assert.match(text.stdout, /nsm +present +.*dev\/nsm\n/)
  assert.match(text.stdout, /ENOENT: \/dev\/tdx-guest does not exist\n +remedy: /)
  const { stdout } = await runCvmd(['doctor', '--root', root, '--json'])
  const { probes } = JSON.parse(stdout) as { probes: { capability: string; state: string }[] }
  assert.deepEqual(
    probes.map((p) => `${p.capability} ${p.state}`),
    ['tdx absent', 'tsm absent', 'nsm present', 'gpu absent'],
  )
})
