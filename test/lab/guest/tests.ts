/** The tests of the guest, in the order they run. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { createInterface } from 'node:readline'
import { loadNative } from '../../../src/device/native.ts'
import { runner } from './daemon.ts'
import { daemonEvidence } from './daemon-evidence.ts'
import { daemonHang } from './daemon-hang.ts'
import { daemonHardware } from './daemon-hardware.ts'
import { deviceAbi } from './device-abi.ts'
import { runTests, test } from './harness.ts'
import { quoteCost } from './quote-cost.ts'
import { registersAbi } from './registers-abi.ts'
import { tsmAbi } from './tsm-abi.ts'

const KERNEL_TROUBLE = /WARNING|BUG|Call Trace|blocked for more than/

await startBackend()
const native = await loadNative()
if (!('transport' in native)) throw new Error(`${native.reason}: ${native.remedy}`)

tsmAbi(native.transport)
deviceAbi(native.transport)
daemonHardware()
daemonEvidence()
daemonHang()
quoteCost(native.transport)
// The last, as it changes what quotes say.
registersAbi(native.transport)
test('kernel: nothing went wrong in it', () => {
  const { stdout } = spawnSync('dmesg', { encoding: 'utf8' })
  const bad = stdout.split('\n').filter((line) => KERNEL_TROUBLE.test(line))
  assert.deepEqual(bad, [])
})
process.exit((await runTests(process.env.LAB_ONLY ?? '')) ? 0 : 1)

/** Starts the program that plays the hardware, and waits until it serves both devices. */
async function startBackend(): Promise<void> {
  const [program, ...args] = runner('backend.mjs')
  const backend = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let serving = 0
  for await (const line of createInterface({ input: backend.stdout })) {
    if (line.startsWith('lab: serving') && ++serving === 2) return
  }
  throw new Error('the back end ended before it served')
}
