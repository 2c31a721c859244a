import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { attestLog } from '../src/attest/attested-log.ts'
import { type Container, writeContainer } from '../src/attest/container.ts'
import type { EventLogEntry } from '../src/attest/event-log.ts'
import { attestationReportData } from '../src/attest/report-binding.ts'
import { isRuntimeEntry, runtimeEntry, runtimeEventOf } from '../src/attest/runtime-event.ts'
import { parseCollateral } from '../src/attest/tdx/collateral.ts'
import { reasonOf } from '../src/attest/verdict.ts'
import { recognise } from '../src/cli/verify/evidence.ts'
import { type JudgeOptions, judge } from '../src/cli/verify/judge.ts'
import { verdictJson, verdictText } from '../src/cli/verify/print.ts'
import { EventLog } from '../src/events/log.ts'
import { toWire } from '../src/events/wire.ts'
import { read, readJson, sharedVectors } from './attest/vectors.ts'
import { nitroSample, SAMPLE_APP, SAMPLE_TIME, tdxSample } from './helpers/evidence.ts'

const tdx = tdxSample()
const nitro = nitroSample()

const NONCE = new Uint8Array(32).fill(0x5a)
const NONCE_DATA = attestationReportData(NONCE)
const REPORT_DATA = new Uint8Array(64).fill(9)
const QUOTE = tdx.quote(REPORT_DATA)

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64')
const text = (value: string) => new Uint8Array(Buffer.from(value))
const json = (value: unknown) => text(JSON.stringify(value))

const usual: JudgeOptions = { at: SAMPLE_TIME, allowDebug: false }
const onTdx: JudgeOptions = {
  ...usual,
  root: tdx.root,
  collateral: parseCollateral(tdx.collateral),
}
const onNitro: JudgeOptions = { ...usual, root: nitro.root }

/** `accepted`, or the code of the first failed step. */
function outcome(file: Uint8Array, options: JudgeOptions): string {
  const verdict = judge(recognise(file), options)
  return verdict.accepted ? 'accepted' : (reasonOf(verdict)?.code ?? 'no reason')
}

const stepOf = (file: Uint8Array, options: JudgeOptions, name: string) =>
  judge(recognise(file), options).steps.find((step) => step.name === name)

const getQuote = (changes: Record<string, unknown> = {}) =>
  json({
    quote: base64(QUOTE),
    event_log: JSON.stringify(tdx.eventLog),
    report_data: hex(REPORT_DATA),
    ...changes,
  })

const container = (version: 0 | 1, changes: Partial<Container['stack']> = {}): Container => ({
  version,
  platform: { kind: 'tdx', quote: QUOTE, eventLog: tdx.eventLog },
  stack: { kind: 'dstack', reportData: REPORT_DATA, runtimeEvents: [], config: '{}', ...changes },
})

test('a quote is known in every coding', () => {
  const codings: Uint8Array[] = [
    QUOTE,
    text(hex(QUOTE)),
    text(`0x${hex(QUOTE).toUpperCase()}\n`),
    text(base64(QUOTE)),
    text(`${base64(QUOTE).replace(/.{64}/g, '$&\n')}\n`),
    getQuote(),
    getQuote({ quote: hex(QUOTE) }),
    getQuote({ quote: `0x${hex(QUOTE)}`, event_log: tdx.eventLog }),
    writeContainer(container(0)),
    writeContainer(container(1)),
    text(hex(writeContainer(container(0)))),
    json({ attestation: hex(writeContainer(container(1))) }),
  ]
  for (const [index, file] of codings.entries()) {
    assert.equal(outcome(file, onTdx), 'accepted', `coding ${index}`)
  }
})

test('a document is known in every coding', () => {
  const document = nitro.document({ userData: REPORT_DATA })
  const tagged = Buffer.concat([Uint8Array.of(0xd2), document])
  const inContainer: Container = {
    ...container(0),
    platform: { kind: 'nitro-enclave', document },
  }
  const codings = [
    document,
    tagged,
    text(hex(document)),
    text(base64(document)),
    json({ document: base64(document) }),
    writeContainer(inContainer),
    writeContainer({ ...inContainer, version: 1 }),
  ]
  for (const [index, file] of codings.entries()) {
    assert.equal(outcome(file, onNitro), 'accepted', `coding ${index}`)
  }
})

test('a foreign root is trusted only when it is named', () => {
  const { root: _, ...pinned } = onTdx
  assert.notEqual(outcome(QUOTE, pinned), 'accepted')
  assert.notEqual(outcome(nitro.document(), usual), 'accepted')
  assert.notEqual(outcome(QUOTE, { ...onTdx, root: nitro.root }), 'accepted')
  assert.notEqual(outcome(nitro.document(), { ...onNitro, root: tdx.root }), 'accepted')
  assert.notEqual(outcome(QUOTE, { ...onTdx, root: tdxSample().root }), 'accepted')
})

test('the claims are those of the measured machine', () => {
  const { claims } = judge(recognise(getQuote()), onTdx)
  assert.equal(claims?.tcb_status, 'UpToDate')
  assert.deepEqual(claims?.advisory_ids, [])
  assert.equal(claims?.report_data, hex(REPORT_DATA))
  assert.equal(claims?.app_id, SAMPLE_APP.appId)
  assert.equal(claims?.compose_hash, SAMPLE_APP.composeHash)
  assert.equal(claims?.debug, false)
  const enclave = judge(recognise(nitro.document({ nonce: NONCE })), onNitro).claims
  assert.equal(enclave?.pcr0, '01'.repeat(48))
  assert.equal(enclave?.nonce, hex(NONCE))
  const image = Buffer.concat([1, 2, 3].map((byte) => Buffer.alloc(48, byte)))
  assert.equal(enclave?.os_image_hash, createHash('sha256').update(image).digest('hex'))
})

test('expected report data is compared, with the zeros of a short one left out', () => {
  const short = Uint8Array.of(0x12, 0x34)
  const whole = new Uint8Array(64)
  whole.set(short)
  assert.equal(outcome(tdx.quote(whole), { ...onTdx, reportData: short }), 'accepted')
  assert.equal(outcome(QUOTE, { ...onTdx, reportData: short }), 'REPORT_DATA_MISMATCH')
  const document = nitro.document({ userData: short, nonce: NONCE })
  assert.equal(outcome(document, { ...onNitro, reportData: short, nonce: NONCE }), 'accepted')
  assert.equal(outcome(document, { ...onNitro, reportData: whole }), 'REPORT_DATA_MISMATCH')
  assert.equal(outcome(document, { ...onNitro, nonce: short }), 'NONCE_MISMATCH')
})

test('options that do not fit the evidence end with status 2', () => {
  const misfits: [Uint8Array, JudgeOptions][] = [
    [QUOTE, { ...onTdx, nonce: NONCE }],
    [QUOTE, { ...onTdx, reportData: new Uint8Array(65) }],
    [nitro.document(), { ...onNitro, log: tdx.bootLog }],
    [nitro.document(), { ...onNitro, collateral: onTdx.collateral }],
  ]
  for (const [file, options] of misfits) {
    assert.throws(() => judge(recognise(file), options), { name: 'CommandFailed', exitCode: 2 })
  }
})

test('an event log must replay to the quote, whoever gives it', () => {
  const log = (entries: readonly EventLogEntry[]) => getQuote({ event_log: entries })
  const [first, ...others] = tdx.eventLog as [EventLogEntry, ...EventLogEntry[]]
  const last = others.at(-1) as EventLogEntry
  const added = runtimeEntry({ name: 'x', payload: new Uint8Array(0), version: 1 })
  const cases: [readonly EventLogEntry[], string][] = [
    [others, 'EVENT_LOG_MISMATCH'],
    [tdx.eventLog.slice(0, -1), 'EVENT_LOG_MISMATCH'],
    [[...tdx.eventLog, added], 'EVENT_LOG_MISMATCH'],
    [[first, ...others.slice(0, -1), { ...last, event_payload: '02' }], 'EVENT_LOG_MISMATCH'],
    [[first, ...others.slice(0, -1), { ...last, digest: '' }], 'accepted'],
    [[first, ...others.slice(0, -1), { ...last, digest: '00'.repeat(48) }], 'EVENT_DIGEST_STATED'],
    [[first, ...others.slice(0, -1), { ...last, imr: 2 }], 'EVENT_REGISTER'],
    // Stripped: all of RTMR3 is there.
    [tdx.eventLog.filter(({ imr }) => imr === 3), 'accepted'],
    [tdx.eventLog.filter(({ imr }) => imr < 3), 'EVENT_LOG_MISMATCH'],
    [[], 'EVENT_LOG_MISMATCH'],
  ]
  for (const [entries, expected] of cases) assert.equal(outcome(log(entries), onTdx), expected)
  assert.equal(outcome(getQuote({ event_log: '[' }), onTdx), 'EVENT_LOG_NOT_JSON')
  // A log given apart takes the place of the answer's.
  const apart = json(tdx.eventLog)
  assert.equal(outcome(log(others), { ...onTdx, log: apart }), 'accepted')
  assert.equal(outcome(QUOTE, { ...onTdx, log: getQuote() }), 'accepted')
  assert.equal(outcome(QUOTE, { ...onTdx, log: json(others) }), 'EVENT_LOG_MISMATCH')
  assert.equal(outcome(QUOTE, { ...onTdx, log: text('nonsense') }), 'EVENT_LOG_NOT_JSON')
})

test('the boot log of the machine covers RTMR0 to RTMR2', () => {
  const options = { ...onTdx, log: tdx.bootLog }
  assert.equal(outcome(QUOTE, options), 'accepted')
  const step = stepOf(QUOTE, options, 'event log')
  assert.equal(step?.detail, 'replays to RTMR0, RTMR1, RTMR2; it does not cover RTMR3')
  const foreign = Uint8Array.from(tdx.bootLog)
  foreign[100] = (foreign[100] as number) ^ 1
  assert.equal(outcome(QUOTE, { ...onTdx, log: foreign }), 'EVENT_LOG_MISMATCH')
})

test('what an answer states beside its evidence must be true', () => {
  const rtmr3 = String(judge(recognise(QUOTE), onTdx).claims?.rtmr3)
  const zero = '00'.repeat(48)
  const cases: [Record<string, unknown>, string][] = [
    [{ rtmr3 }, 'accepted'],
    [{ rtmr3: zero }, 'REGISTER_STATED'],
    [{ rtmr0: zero, rtmr3 }, 'REGISTER_STATED'],
    [{ rtmr0: 5, rtmr3 }, 'REGISTER_STATED'],
    [{ platform: 'tdx' }, 'accepted'],
    [{ platform: 'nitro' }, 'PLATFORM_STATED'],
    [{ platform: ['tdx'] }, 'PLATFORM_STATED'],
    [{ document: 'aaaa' }, 'PLATFORM_STATED'],
    [{ report_data: '00' }, 'REPORT_DATA_STATED'],
    [{ report_data: 'xyz' }, 'HEX_INVALID'],
    [{ report_data: 5 }, 'HEX_INVALID'],
    [{ report_data: [[]] }, 'HEX_INVALID'],
    [{ quote_hex: hex(QUOTE) }, 'accepted'],
    [{ quote_hex: hex(tdx.quote(NONCE_DATA)) }, 'QUOTE_STATED'],
    [{ app_id: SAMPLE_APP.appId }, 'accepted'],
    [{ app_id: 'ff'.repeat(20), event_log: undefined }, 'accepted'],
    [{ app_id: 'ff'.repeat(20) }, 'ID_STATED'],
    [{ compose_hash: 'ff'.repeat(32) }, 'ID_STATED'],
  ]
  for (const [changes, expected] of cases) {
    assert.equal(outcome(getQuote(changes), onTdx), expected, JSON.stringify(changes))
  }
  const unproven = getQuote({ app_id: SAMPLE_APP.appId, event_log: undefined })
  assert.equal(stepOf(unproven, onTdx, 'stated ids')?.outcome, 'skipped')
  const other = container(0, { reportData: new Uint8Array(64) })
  assert.equal(outcome(writeContainer(other), onTdx), 'REPORT_DATA_STATED')
  const listed = tdx.eventLog.filter(isRuntimeEntry).map(runtimeEventOf)
  const complete = container(0, { runtimeEvents: listed })
  assert.equal(outcome(writeContainer(complete), onTdx), 'accepted')
  assert.equal(stepOf(writeContainer(complete), onTdx, 'stated events')?.outcome, 'passed')
  const shorter = container(0, { runtimeEvents: listed.slice(1) })
  assert.equal(outcome(writeContainer(shorter), onTdx), 'EVENTS_STATED')
})

test('an /attestation answer is bound to its nonce', () => {
  for (const platform of ['tdx', 'nitro'] as const) {
    const options = platform === 'tdx' ? onTdx : onNitro
    const evidence = (reportData: Uint8Array) =>
      platform === 'tdx'
        ? { quote: hex(tdx.quote(reportData)), event_log: JSON.stringify(tdx.eventLog) }
        : { document: base64(nitro.document({ userData: reportData })), event_log: '[]' }
    const answer = (nonce: Uint8Array, reportData = attestationReportData(nonce)) =>
      json({
        platform,
        ...evidence(reportData),
        report_data: hex(reportData),
        nonce: hex(nonce),
        app_id: SAMPLE_APP.appId,
        compose_hash: '',
        timestamp: '2026-03-01T00:00:00Z',
      })
    assert.equal(outcome(answer(NONCE), { ...options, nonce: NONCE }), 'accepted')
    assert.equal(outcome(answer(new Uint8Array(0)), options), 'accepted')
    assert.equal(stepOf(answer(NONCE), options, 'freshness')?.outcome, 'skipped')
    // Replayed for another nonce, or made for something else.
    const other = { ...options, nonce: Uint8Array.of(1) }
    assert.equal(outcome(answer(NONCE), other), 'NONCE_MISMATCH')
    assert.equal(outcome(answer(NONCE, REPORT_DATA), options), 'BINDING_MISMATCH')
    const renamed = answer(Uint8Array.of(1), attestationReportData(NONCE))
    assert.equal(outcome(renamed, other), 'BINDING_MISMATCH')
  }
})

test('an attested log proves the log downloaded beside it', async () => {
  const log = new EventLog()
  for (let i = 1; i <= 5; i++) log.append('test', `event ${i}`)
  const events = log.after(0).map((event) => toWire(log, event))
  const lines = (items: readonly unknown[]) =>
    text(items.map((item) => `${JSON.stringify(item)}\n`).join(''))
  for (const platform of ['tdx', 'nitro'] as const) {
    const evidence = (reportData: Uint8Array) =>
      Promise.resolve(
        platform === 'tdx'
          ? { platform, quote: tdx.quote(reportData), eventLog: [], reportData }
          : { platform, document: nitro.document({ userData: reportData }), reportData },
      )
    const answer = await attestLog(log, { evidence }, NONCE)
    const options = {
      ...(platform === 'tdx' ? onTdx : onNitro),
      nonce: NONCE,
      log: lines(events),
    }
    assert.equal(outcome(json(answer), options), 'accepted')
    const { log: _, ...withoutLog } = options
    assert.equal(stepOf(json(answer), withoutLog, 'downloaded log')?.outcome, 'skipped')
    const altered = lines(
      events.map((event) => (event.seq === 3 ? { ...event, message: 'x' } : event)),
    )
    assert.equal(outcome(json(answer), { ...options, log: altered }), 'EVENT_ALTERED')
    const step = stepOf(json(answer), { ...options, log: altered }, 'downloaded log')
    assert.match(step?.detail ?? '', /event 3 was altered/)
    const shorter = { ...options, log: lines(events.slice(0, 4)) }
    assert.equal(outcome(json(answer), shorter), 'EVENT_REMOVED')
    const systemApi = { ...options, log: text('[{"received_at":"2026-03-01","message":"a"}]') }
    assert.equal(outcome(json(answer), systemApi), 'LOG_WITHOUT_CHAIN')
    for (const lie of [{ seq: 4 }, { head: '11'.repeat(32) }, { nonce: '01' }]) {
      const { nonce: _, ...any } = options
      assert.equal(
        outcome(json({ ...answer, ...lie, report_data: undefined }), any),
        'BINDING_MISMATCH',
      )
    }
    assert.equal(outcome(json(answer), { ...options, nonce: Uint8Array.of(1) }), 'NONCE_MISMATCH')
  }
})

test('evidence that proves nothing far away is refused with the reason, and shown', () => {
  const ccel = judge(recognise(tdx.bootLog), usual)
  assert.equal(reasonOf(ccel)?.code, 'EVENT_LOG_UNSIGNED')
  assert.equal(ccel.claims?.rtmr0, judge(recognise(QUOTE), onTdx).claims?.rtmr0)
  assert.equal(outcome(json(tdx.eventLog), usual), 'EVENT_LOG_UNSIGNED')
  const report = new Uint8Array(1024)
  report[0] = 0x81
  assert.equal(outcome(report, usual), 'TDREPORT_LOCAL')
})

test('debugging is allowed only when asked for', () => {
  const zero = new Uint8Array(48)
  const document = nitro.document({ pcrs: new Map([0, 1, 2].map((index) => [index, zero])) })
  assert.equal(outcome(document, onNitro), 'NITRO_DEBUG')
  assert.equal(outcome(document, { ...onNitro, allowDebug: true }), 'accepted')
})

test('the time decides', () => {
  const year = 365 * 86_400_000
  for (const at of [SAMPLE_TIME + year, SAMPLE_TIME - year]) {
    assert.notEqual(outcome(QUOTE, { ...onTdx, at }), 'accepted')
    assert.notEqual(outcome(nitro.document(), { ...onNitro, at }), 'accepted')
  }
})

test('no changed, shortened or lengthened evidence is accepted as what it was', () => {
  const files: [Uint8Array, JudgeOptions][] = [
    [QUOTE, { ...onTdx, reportData: REPORT_DATA }],
    [nitro.document({ userData: REPORT_DATA }), { ...onNitro, reportData: REPORT_DATA }],
  ]
  for (const [file, options] of files) {
    fc.assert(
      fc.property(fc.nat(file.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const changed = file.slice()
        changed[at] = (changed[at] as number) ^ flip
        const whole = JSON.stringify(judge(recognise(file), options).claims)
        for (const given of [changed, file.slice(0, at)]) {
          const verdict = settle(given, options)
          // Bits that nothing signs and nobody reads may differ; what is proven may not.
          if (verdict?.accepted) assert.equal(JSON.stringify(verdict.claims), whole)
        }
        assert.notEqual(settle(file.slice(0, at), options)?.accepted, true)
      }),
      { numRuns: 40 },
    )
  }
})

test('deep nesting where text belongs is refused as the rest', () => {
  const deep = `${'['.repeat(50_000)}${']'.repeat(50_000)}`
  const quote = JSON.stringify(hex(QUOTE))
  for (const answer of [
    `{"quote":${quote},"event_log":[${deep}]}`,
    `{"quote":${quote},"event_log":[{"imr":${deep}}]}`,
    `{"quote":${quote},"event_log":[],"report_data":${deep},"rtmr0":${deep},"quote_hex":${deep}}`,
    `{"quote":${quote},"platform":"tdx","nonce":${deep},"app_id":${deep}}`,
    `{"platform":${deep},"seq":1,"head":"","quote":${quote}}`,
    `{"platform":"tdx","seq":${deep},"head":${deep},"nonce":${deep},"quote":${quote}}`,
    deep,
  ]) {
    assert.notEqual(settle(text(answer), onTdx)?.accepted, true)
  }
})

test('anything at all is judged or refused', () => {
  const anything = fc.oneof(
    fc.uint8Array({ maxLength: 400 }),
    fc.string().map(text),
    fc.json().map(text),
    fc.uint8Array().map((bytes) => text(hex(bytes))),
    fc.record({ quote: fc.string(), event_log: fc.jsonValue(), nonce: fc.jsonValue() }).map(json),
    fc.record({ platform: fc.string(), seq: fc.jsonValue(), head: fc.string() }).map(json),
    fc.record({ attestation: fc.uint8Array().map((bytes) => `00${hex(bytes)}`) }).map(json),
  )
  fc.assert(fc.property(anything, (file) => settle(file, usual)?.accepted !== true))
})

/** The verdict, or undefined where the file is refused as unreadable. */
function settle(file: Uint8Array, options: JudgeOptions) {
  try {
    return judge(recognise(file), options)
  } catch (error) {
    assert.equal((error as Error).name, 'EvidenceError')
    return undefined
  }
}

test('a verdict is written for people and for programs, and cannot act on a terminal', () => {
  const evidence = recognise(getQuote())
  const verdict = judge(evidence, onTdx)
  const lines = verdictText(evidence.form, verdict).split('\n')
  assert.equal(lines[0], 'GetQuote answer')
  assert.ok(lines.some((line) => /^ok {7}quote signature +header and body/.test(line)))
  assert.ok(lines.some((line) => /^ {9}app_id +(ab){20}$/.test(line)))
  assert.equal(lines.at(-1), 'accepted')
  const rejected = judge(evidence, { ...onTdx, reportData: NONCE })
  const report = verdictText(evidence.form, rejected)
  assert.match(report, /^FAILED {3}report data/m)
  assert.match(report, /\nrejected: .*\(REPORT_DATA_MISMATCH\)$/)
  const program = JSON.parse(JSON.stringify(verdictJson(evidence.form, rejected)))
  assert.equal(program.accepted, false)
  assert.equal(program.reason.code, 'REPORT_DATA_MISMATCH')
  assert.equal(program.claims.app_id, SAMPLE_APP.appId)
  const shell = { name: 'x', outcome: 'failed', detail: '\u001b[2Jgone\n', code: 'X' } as const
  const escaped = verdictText('x', { accepted: false, steps: [shell], claims: { a: '\u202e' } })
  assert.ok(
    !escaped.includes('\u001b') && !escaped.includes('\u202e') && !escaped.includes('gone\n'),
  )
})

test('real evidence gives the verdicts known of it', (t) => {
  const dir = sharedVectors(t, 'tdx')
  if (dir === undefined) return
  const collateral = (name: string) => parseCollateral(read(dir, 'real', name))
  const upToDate = { ...usual, at: Date.parse('2025-07-19T10:00:34Z') }
  const quote = read(dir, 'real/qvl-uptodate.bin')
  const known = { ...upToDate, collateral: collateral('qvl-uptodate-collateral.json') }
  assert.equal(outcome(quote, known), 'accepted')
  assert.equal(outcome(quote, upToDate), 'COLLATERAL_MISSING')
  assert.notEqual(outcome(quote, { ...known, at: Date.parse('2025-07-19T11:00:00Z') }), 'accepted')
  assert.equal(outcome(read(dir, 'real/qvl-sgx.bin'), known), 'QUOTE_NOT_TDX')
  assert.equal(outcome(read(dir, 'real/gc-tdreport.bin'), known), 'TDREPORT_LOCAL')
  const boot = { ...upToDate, log: read(dir, 'real/cos113-ccel.dat') }
  const step = stepOf(read(dir, 'real/cos113-quote.dat'), boot, 'event log')
  assert.equal(step?.detail, 'replays to RTMR0, RTMR1, RTMR2, RTMR3')
  assert.equal(stepOf(quote, boot, 'event log')?.code, 'EVENT_LOG_MISMATCH')
})

test('real answers of dstack replay, and enclaves are judged at their time', (t) => {
  const dir = sharedVectors(t, 'dstack')
  if (dir === undefined) return
  const { nsm } = readJson(dir, 'expected.json')
  const then = { ...usual, at: Date.parse('2026-06-01T00:00:00Z') }
  for (const file of ['quote-report.json', 'tdx-lite-getquote.json', 'tdx-lite-attestation.json']) {
    const given = read(dir, 'tdx', file)
    assert.equal(stepOf(given, then, 'quote signature')?.outcome, 'passed', file)
    assert.equal(stepOf(given, then, 'event log')?.outcome, 'passed', file)
    assert.equal(stepOf(given, then, 'stated report data')?.outcome, 'passed', file)
  }
  const simulator = read(dir, 'simulator/attestation.bin')
  assert.equal(stepOf(simulator, then, 'event log')?.outcome, 'passed')
  const at = nsm['nsm/nitro_versioned_attestation.bin'].document.timestamp_ms
  const enclave = read(dir, 'nsm/nitro_versioned_attestation.bin')
  assert.equal(outcome(enclave, { ...usual, at }), 'accepted')
  assert.equal(
    judge(recognise(enclave), { ...usual, at }).claims?.os_image_hash,
    nsm['nsm/nitro_versioned_attestation.bin'].document.sha256_pcr0_pcr1_pcr2,
  )
  const debug = nsm['nsm/nitro_versioned_attestation_debug.bin'].document.timestamp_ms
  const inDebug = read(dir, 'nsm/nitro_versioned_attestation_debug.bin')
  assert.equal(outcome(inDebug, { ...usual, at: debug }), 'NITRO_DEBUG')
})
