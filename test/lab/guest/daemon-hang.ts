/** A device that never answers: deadlines hold, nothing else waits, and the daemon stops. */
import assert from 'node:assert/strict'
import { json, type LabDaemon, startCvmd, stopCvmd } from './daemon.ts'
import { test } from './harness.ts'
import { type Hardware, plug, reportEntries, setFault } from './stage.ts'

const CONFIG = 'shutdown_timeout_ms = 2000\n[attestation]\ndeadline_ms = 3000\n'

const PATHS = { tdx: '/GetQuote?report_data=01', nsm: '/GetAttestation?user_data=01' } as const

let daemon: LabDaemon

/** Adds the tests of devices that hang. */
export function daemonHang(): void {
  deadline('tdx')
  test('hang: the daemon stops with a quote pending', async () => {
    setFault('tdx', 'hang')
    try {
      await askAndWait('tdx')
      await stopCvmd(daemon)
    } finally {
      setFault('tdx', undefined)
    }
  })
  test('hang: the next start removes the entry that was left', async () => {
    assert.equal(reportEntries().length, 1)
    daemon = await startCvmd(CONFIG)
    await json(200, daemon.guest(PATHS.tdx))
    assert.deepEqual(reportEntries(), [])
    await stopCvmd(daemon)
  })

  deadline('nsm')
  // The driver waits uninterruptibly: no signal ends a process that has a thread in there.
  test('hang: the daemon leaves with a document pending, and is gone once it is made', async () => {
    setFault('nsm', 'hang')
    try {
      await askAndWait('nsm')
      daemon.terminate()
      await left(daemon)
    } finally {
      setFault('nsm', undefined)
    }
    assert.equal(await daemon.exited, 0)
  })
}

function deadline(hardware: Hardware): void {
  test(`hang: a stuck ${hardware} ends at the deadline and delays nothing else`, async () => {
    plug(hardware)
    daemon = await startCvmd(CONFIG)
    const ask = () => daemon.guest(PATHS[hardware])
    await json(200, ask())
    setFault(hardware, 'hang')
    try {
      let ended = false
      const stuck = ask().finally(() => {
        ended = true
      })
      for (let request = 0; request < 5; request++) {
        assert.equal((await daemon.operator('/livez')).status, 200)
      }
      assert.equal(ended, false)
      await json(504, stuck)
    } finally {
      setFault(hardware, undefined)
    }
    // The device itself is free a little later than its caller.
    while ((await ask()).status !== 200) await pause(200)
    assert.deepEqual(reportEntries(), [])
  })
}

/** Asks for evidence that does not come, and lets the request reach the device. */
async function askAndWait(hardware: Hardware): Promise<void> {
  daemon.guest(PATHS[hardware]).catch(() => undefined)
  await pause(1000)
}

/** Waits until the daemon takes no requests any more. */
async function left({ operator }: LabDaemon): Promise<void> {
  for (;;) {
    try {
      await operator('/livez')
    } catch {
      return
    }
    await pause(200)
  }
}

const pause = (ms: number): Promise<void> => new Promise((tick) => setTimeout(tick, ms))
