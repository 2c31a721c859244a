/** The boot probe: exactly the plugins whose hardware is there, and why for the others. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { json, type LabDaemon, runner, startCvmd, stopCvmd } from './daemon.ts'
import { test } from './harness.ts'
import { type Hardware, plug, reportEntries } from './stage.ts'

interface Doctor {
  readonly probes: readonly { readonly capability: string; readonly state: string }[]
}

interface Plugins {
  readonly plugins: readonly { readonly name: string; readonly state: string }[]
}

/** Which plugin is for which hardware. */
const PLUGINS = { tdx: ['tdx'], nitro: ['nsm'], guest: ['tdx', 'nsm'] } as const

/** Adds the tests of what the boot finds. */
export function daemonHardware(): void {
  const machines: readonly (readonly Hardware[])[] = [[], ['tdx'], ['nsm'], ['tdx', 'nsm']]
  for (const present of machines) {
    test(`probe: doctor finds ${present.join(' and ') || 'no hardware'}`, () => {
      plug(...present)
      const found = doctor()
      for (const hardware of ['tdx', 'nsm'] as const) {
        assert.equal(found(hardware), present.includes(hardware) ? 'present' : 'absent', hardware)
      }
      assert.deepEqual(reportEntries(), [])
    })
  }
  test('probe: what belongs to root is unknown to others, not absent', () => {
    plug('tdx', 'nsm')
    const found = doctor(65534)
    assert.equal(found('tdx'), 'unknown')
    assert.equal(found('nsm'), 'present')
  })
  // Machines with one of the two are those of the evidence.
  for (const present of [[], ['tdx', 'nsm']] as const) {
    const what = present.length === 0 ? 'neither' : 'both'
    test(`probe: the daemon with ${what} enables exactly its plugins`, async () => {
      plug(...present)
      const daemon = await startCvmd()
      await expectPlugins(daemon, present)
      await stopCvmd(daemon)
      assert.deepEqual(reportEntries(), [])
    })
  }
}

/** Expects the plugins of the hardware present to be enabled, and the others unavailable. */
export async function expectPlugins(
  daemon: LabDaemon,
  present: readonly Hardware[],
): Promise<void> {
  const { plugins } = await json<Plugins>(200, daemon.operator('/cvmd/plugins'))
  for (const [name, hardware] of Object.entries(PLUGINS)) {
    const expected = hardware.some((one) => present.includes(one)) ? 'enabled' : 'unavailable'
    const { state } = plugins.find((plugin) => plugin.name === name) ?? {}
    assert.equal(state, expected, name)
  }
}

/** Runs the doctor; gives the state of a capability. */
function doctor(uid = 0): (capability: string) => string | undefined {
  const [program, ...args] = runner('cvmd.js')
  const { status, stdout, stderr } = spawnSync(program, [...args, 'doctor', '--json'], { uid })
  assert.equal(status, 0, String(stderr))
  const { probes } = JSON.parse(String(stdout)) as Doctor
  return (capability) => probes.find((probe) => probe.capability === capability)?.state
}
