/** What runs in a confidential VM is measured before it runs. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseEventLog } from '../src/attest/event-log.ts'
import { toHex } from '../src/attest/hex.ts'
import { replay } from '../src/attest/replay.ts'
import { unixRequest } from './helpers/daemon.ts'
import { useEngine } from './helpers/engine.ts'
import { supervisedMachine } from './supervisor/supervised.ts'
import { nameOf, target } from './supervisor/targets.ts'

const engineOf = useEngine()

test('each target is an event of RTMR3, before its containers are there', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const args = ['--simulate', 'tdx']
  const machine = await supervisedMachine(t, engine, { config: 'measure_target = true', args })
  const measured = async () => {
    const { body } = await unixRequest(join(machine.folder, 'run/dstack.sock'), '/GetQuote')
    const { event_log, rtmr3 } = JSON.parse(body) as { event_log: string; rtmr3: string }
    const log = parseEventLog(event_log)
    assert.equal(toHex(replay(log)[3]), rtmr3, 'the register says the same')
    return log.filter(({ event }) => event === 'supervisor-target').map((e) => e.event_payload)
  }
  assert.deepEqual(await measured(), [])
  const one = target({ main: { environment: { SECRET: 'one' } } })
  await machine.setTarget(one)
  await machine.converged({ [nameOf('main', 1)]: 'running' })
  const [first, ...more] = await measured()
  assert.match(first ?? '', /^[0-9a-f]{64}$/)
  assert.deepEqual(more, [])
  await machine.setTarget(one)
  assert.equal((await measured()).length, 1, 'the same target is the same event')
  await machine.setTarget(target({ main: { environment: { SECRET: 'two' } } }, { number: 2 }))
  await machine.converged({ [nameOf('main', 2)]: 'running' })
  const [, second] = await measured()
  assert.match(second ?? '', /^[0-9a-f]{64}$/)
  assert.notEqual(second, first)
})
