/** Both plugins on a simulated machine: the real queue and protocol, judged by the verifiers. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, test } from 'node:test'
import nitro from '../../plugins/nitro/index.ts'
import tdx from '../../plugins/tdx/index.ts'
import { parseEventLog } from '../../src/attest/event-log.ts'
import { verifyDocument } from '../../src/attest/nitro/verify.ts'
import { compareRegisters } from '../../src/attest/replay.ts'
import { parseCollateral } from '../../src/attest/tdx/collateral.ts'
import { parseQuote } from '../../src/attest/tdx/quote.ts'
import { verifyQuote } from '../../src/attest/tdx/verify.ts'
import { reasonOf } from '../../src/attest/verdict.ts'
import { type AttesterParts, MachineAttester } from '../../src/attester/machine-attester.ts'
import type { Fault } from '../../src/simulate/machine.ts'
import { createSimulator } from '../../src/simulate/simulator.ts'
import { hostPlugin, type PluginHost } from '../helpers/plugin-host.ts'

/** Members of the answers that are looked at here. */
type Answer = Readonly<
  Partial<Record<'quote' | 'event_log' | 'rtmr0' | 'document' | 'code', string>>
>

const FACTS = { canQuote: true, canReport: true, canExtend: true }

const running: PluginHost[] = []
after(() => Promise.all(running.map((host) => host.stop())))

/** A plugin on a simulated machine with a short deadline and two places to wait. */
async function simulated(plugin: typeof tdx | typeof nitro, fault: Fault, deadline_ms = 10_000) {
  const isTdx = plugin.name === 'tdx'
  const simulator = await createSimulator({ platform: isTdx ? 'tdx' : 'nitro', fault })
  const { transport } = simulator
  const machine = { transport, tdx: isTdx ? FACTS : undefined, has: () => !isTdx }
  const attestation = new MachineAttester({
    machine: machine as unknown as AttesterParts['machine'],
    config: { deadline_ms, waiting: 2 },
    runtimeEventsFile: '/none',
    observer: () => ({}),
  })
  const host = hostPlugin(plugin, {}, { services: { attestation } })
  running.push(host)
  await host.start()
  const json = async (path: string, init: RequestInit = {}) => {
    const answer = await host.request(path, init)
    return { status: answer.status, ...((await answer.json()) as Answer) }
  }
  return { host, json, trust: simulator.trust }
}

const fine: Fault = () => undefined

/** Lets calls to a path through, once the test says so. */
function gate(path: string) {
  let open = () => {}
  const opened = new Promise<undefined>((resolve) => {
    open = () => resolve(undefined)
  })
  const fault: Fault = (call) => (call.path.endsWith(path) ? opened : undefined)
  return { open, fault }
}

test('a quote convinces a verifier, and its event log replays to it', async () => {
  const { json, trust } = await simulated(tdx, fine)
  assert.ok(trust.platform === 'tdx')
  const reportData = randomBytes(64)
  const body = JSON.stringify({ report_data: reportData.toString('hex') })
  const answer = await json('/GetQuote', { method: 'POST', body })
  const quote = Buffer.from(answer.quote ?? '', 'hex')
  const collateral = parseCollateral(JSON.stringify(trust.collateral))
  const verdict = verifyQuote(quote, { root: trust.root, collateral, reportData })
  assert.equal(reasonOf(verdict), undefined)
  assert.ok(verdict.accepted)
  const results = compareRegisters(parseEventLog(answer.event_log), parseQuote(quote).rtmr)
  assert.ok(results.every(({ state }) => state === 'match'))
  const registers = await json('/cvmd/tdx/registers')
  assert.equal(registers.rtmr0, answer.rtmr0)
})

test('a document convinces a verifier, and holds every field', async () => {
  const { json, trust } = await simulated(nitro, fine)
  const [user_data, nonce, public_key] = ['aa'.repeat(512), 'bb'.repeat(512), 'cc'.repeat(1024)]
  const body = JSON.stringify({ user_data, nonce, public_key })
  const { document = '' } = await json('/GetAttestation', { method: 'POST', body })
  const verdict = verifyDocument(Buffer.from(document, 'base64'), { root: trust.root })
  assert.equal(reasonOf(verdict), undefined)
  const { userData, nonce: carried, publicKey } = verdict.claims ?? assert.fail('no claims')
  assert.deepEqual(
    [userData, carried, publicKey].map((bytes) => Buffer.from(bytes ?? []).toString('hex')),
    [user_data, nonce, public_key],
  )
  await json('/cvmd/nitro/pcrs/16/extend', { method: 'POST', body: '{"data":"01"}' })
  await json('/cvmd/nitro/pcrs/16/lock', { method: 'POST' })
  const again = await json('/cvmd/nitro/pcrs/16/lock', { method: 'POST' })
  assert.deepEqual([again.status, again.code], [409, 'PCR_LOCKED'])
})

test('many callers at once each get their own quote, or are told when to come back', async () => {
  const { open, fault } = gate('/outblob')
  const { host } = await simulated(tdx, fault)
  const callers = Array.from({ length: 64 }, (_, i) => i.toString(16).padStart(2, '0'))
  let refused = 0
  const answers = callers.map(async (data) => {
    const answer = await host.request(`/v0/GetQuote?report_data=${data}`)
    // One at the device, two waiting: when all others are refused the device may go on.
    if (answer.status === 429 && ++refused === callers.length - 3) open()
    return answer
  })
  for (const [i, answer] of (await Promise.all(answers)).entries()) {
    const { quote = '', code } = (await answer.json()) as Record<string, string>
    if (answer.status === 200) {
      const { reportData } = parseQuote(Buffer.from(quote, 'hex'))
      assert.equal(reportData[0], i)
    } else {
      assert.deepEqual([answer.status, code], [429, 'DEVICE_QUEUE_FULL'])
      assert.ok(Number(answer.headers.get('retry-after')) >= 1)
    }
  }
  assert.equal(refused, callers.length - 3)
})

test('callers who ask the same share one quote', async () => {
  let quotes = 0
  const { json } = await simulated(tdx, ({ path, operation }) => {
    if (path.endsWith('/outblob') && operation === 'read') quotes++
    return undefined
  })
  const answers = await Promise.all(Array.from({ length: 20 }, () => json('/GetQuote')))
  assert.ok(answers.every(({ status }) => status === 200))
  assert.equal(quotes, 1)
})

test('a device that fails, or never answers, is an error and never an empty quote', async () => {
  const onQuote = (answer: ReturnType<Fault>): Fault => {
    return ({ path }) => (path.endsWith('/outblob') ? answer : undefined)
  }
  for (const [answer, status, code] of [
    [new Uint8Array(), 502, 'DEVICE_FAILED'],
    [new Uint8Array(2000), 502, 'DEVICE_FAILED'],
    ['EIO', 502, 'DEVICE_FAILED'],
    ['ETIMEDOUT', 504, 'DEVICE_TIMEOUT'],
    ['hang', 504, 'DEVICE_TIMEOUT'],
  ] as const) {
    const { json } = await simulated(tdx, onQuote(answer), answer === 'hang' ? 100 : 10_000)
    const found = await json('/GetQuote')
    assert.deepEqual([found.status, found.code], [status, code], String(answer))
    assert.equal(found.quote, undefined)
    assert.equal((await json('/cvmd/tdx/registers')).status, 200, 'registers do not wait for it')
  }
})
