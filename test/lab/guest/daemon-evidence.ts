/** Evidence over the application's socket, from one kind of hardware after the other. */
import assert from 'node:assert/strict'
import { parseDocument } from '../../../src/attest/nitro/document.ts'
import { verifyDocument } from '../../../src/attest/nitro/verify.ts'
import { replay } from '../../../src/attest/replay.ts'
import { parseCollateral } from '../../../src/attest/tdx/collateral.ts'
import { parseQuote } from '../../../src/attest/tdx/quote.ts'
import { verifyQuote } from '../../../src/attest/tdx/verify.ts'
import { reasonOf } from '../../../src/attest/verdict.ts'
import { json, type LabDaemon, startCvmd, stopCvmd, trust } from './daemon.ts'
import { expectPlugins } from './daemon-hardware.ts'
import { test } from './harness.ts'
import { type Errno, type Fault, type Hardware, plug, reportEntries, setFault } from './stage.ts'

interface QuoteAnswer {
  /** Base64. */
  readonly quote: string
  /** JSON. */
  readonly event_log: string
  readonly rtmr0: string
  readonly rtmr1: string
  readonly rtmr2: string
  readonly rtmr3: string
}

interface DocumentAnswer {
  /** Base64. */
  readonly document: string
}

/** As many may wait at once as call at once. */
const CALLERS = 64
const CONFIG = `[attestation]\nwaiting = ${CALLERS}\ndeadline_ms = 60000\n`

const bytes = (base64: string): Uint8Array => new Uint8Array(Buffer.from(base64, 'base64'))
const hex = (given: Uint8Array): string => Buffer.from(given).toString('hex')
const callers = Array.from({ length: CALLERS }, (_, caller) => caller)

let daemon: LabDaemon

/** Adds the tests of quotes and documents. */
export function daemonEvidence(): void {
  onMachine('tdx', tdx)
  onMachine('nsm', nitro)
}

/** Runs tests against a daemon on a machine of one kind. */
function onMachine(hardware: Hardware, tests: () => void): void {
  test(`evidence: the daemon with ${hardware} enables exactly its plugins`, async () => {
    plug(hardware)
    daemon = await startCvmd(CONFIG)
    await expectPlugins(daemon, [hardware])
  })
  tests()
  test(`evidence: the daemon with ${hardware} stops`, async () => {
    await stopCvmd(daemon)
    assert.deepEqual(reportEntries(), [])
  })
}

function tdx(): void {
  const quote = (reportData: string) => daemon.guest(`/GetQuote?report_data=${reportData}`)

  test('evidence: a quote over the data verifies, under the right root alone', async () => {
    const reportData = new Uint8Array(64)
    reportData.set([0x12, 0x34, 0xde, 0xad, 0xbe, 0xef])
    const { quote: base64 } = await json<QuoteAnswer>(200, quote('0x1234deadbeef'))
    const made = bytes(base64)
    const collateral = parseCollateral(trust('tdx-collateral.json'))
    const options = { collateral, reportData }
    const verdict = verifyQuote(made, { ...options, root: trust('tdx-root.der') })
    assert.equal(reasonOf(verdict), undefined)
    assert.ok(verdict.accepted)
    assert.ok(!verifyQuote(made, options).accepted)
  })
  test("evidence: the firmware's boot log replays to the registers", async () => {
    const answer = await json<QuoteAnswer>(200, quote(''))
    const { rtmr } = parseQuote(bytes(answer.quote))
    const registers = replay(JSON.parse(answer.event_log)).map(hex)
    assert.deepEqual(registers, rtmr.map(hex))
    assert.deepEqual(registers, [answer.rtmr0, answer.rtmr1, answer.rtmr2, answer.rtmr3])
    assert.notEqual(answer.rtmr0, '00'.repeat(48))
  })
  test('evidence: 64 callers at once get quotes over their own data', async () => {
    const check = async (caller: number) => {
      const data = Buffer.alloc(64, caller).toString('hex')
      const answer = await json<QuoteAnswer>(200, quote(data))
      assert.equal(hex(parseQuote(bytes(answer.quote)).reportData), data)
    }
    await Promise.all(callers.map(check))
    assert.deepEqual(reportEntries(), [])
  })
  const statuses = { EIO: 502, ENXIO: 502, EBUSY: 503, EINTR: 503, ETIMEDOUT: 504 } as const
  for (const [code, status] of Object.entries(statuses)) {
    test(`evidence: ${code} of the TDX driver is ${status}`, async () => {
      const { error } = await faulty('tdx', code as Errno, status, () => quote('01'))
      assert.match(error, new RegExp(code))
    })
  }
  for (const fault of ['empty', 'foreign', 'junk', 'huge'] as const) {
    test(`evidence: no quote comes of an answer that is ${fault}`, async () => {
      await faulty('tdx', fault, 502, () => quote('02'))
    })
  }
}

function nitro(): void {
  const document = (userData: string) => daemon.guest(`/GetAttestation?user_data=${userData}`)

  test('evidence: a document over the data verifies, under the right root alone', async () => {
    const { document: base64 } = await json<DocumentAnswer>(200, document('0x1234deadbeef'))
    const made = bytes(base64)
    const options = { reportData: new Uint8Array(Buffer.from('1234deadbeef', 'hex')) }
    const verdict = verifyDocument(made, { ...options, root: trust('nitro-root.der') })
    assert.equal(reasonOf(verdict), undefined)
    assert.ok(verdict.accepted)
    assert.ok(!verifyDocument(made, options).accepted)
  })
  test('evidence: 64 callers at once get documents over their own data', async () => {
    const check = async (caller: number) => {
      const data = Buffer.alloc(32, caller).toString('hex')
      const answer = await json<DocumentAnswer>(200, document(data))
      const { userData } = parseDocument(bytes(answer.document))
      assert.equal(userData && hex(userData), data)
    }
    await Promise.all(callers.map(check))
  })
  for (const fault of ['empty', 'foreign', 'junk', 'huge', 'InternalError'] as const) {
    test(`evidence: no document comes of an answer that is ${fault}`, async () => {
      await faulty('nsm', fault, 502, () => document('02'))
    })
  }
}

/** Expects a status while the fault lasts, 200 after it, and nothing left behind. */
async function faulty(
  hardware: Hardware,
  fault: Fault,
  status: number,
  request: () => ReturnType<LabDaemon['guest']>,
): Promise<{ readonly error: string }> {
  setFault(hardware, fault)
  try {
    return await json(status, request())
  } finally {
    setFault(hardware, undefined)
    await json(200, request())
    assert.deepEqual(reportEntries(), [])
  }
}
