import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { EvidenceError } from '../../src/attest/evidence-error.ts'
import { toHex } from '../../src/attest/hex.ts'
import { parseCollateral } from '../../src/attest/tdx/collateral.ts'
import { parseQuote } from '../../src/attest/tdx/quote.ts'
import { intelSgxRoot } from '../../src/attest/tdx/root.ts'
import { readQeIdentity, readTcbInfo } from '../../src/attest/tdx/tcb-info.ts'
import { parseTdReport } from '../../src/attest/tdx/tdreport.ts'
import { type VerifyOptions, verifyQuote } from '../../src/attest/tdx/verify.ts'
import { reasonOf } from '../../src/attest/verdict.ts'

const fixture = (name: string) =>
  new Uint8Array(readFileSync(new URL(`../fixtures/tdx/${name}`, import.meta.url)))

const QUOTE = fixture('qvl-uptodate.bin')
const COLLATERAL_FILE = fixture('qvl-uptodate-collateral.json')
const COLLATERAL = parseCollateral(COLLATERAL_FILE)
const [FROM, TO] = [Date.parse('2025-06-19T10:32:27Z'), Date.parse('2025-07-19T10:00:35Z')]
const AT = Date.parse('2025-07-01T00:00:00Z')
const GENUINE: VerifyOptions = { collateral: COLLATERAL, at: AT }

// Offsets in a version 4 quote (spec tdx §6).
const BODY = 48
const REPORT_DATA = BODY + 520
const SIGNATURE_LENGTH = 632
const SIGNATURE = 636
const ATTESTATION_KEY = SIGNATURE + 64
const QE_REPORT = SIGNATURE + 134
const QE_REPORT_SIGNATURE = QE_REPORT + 384
const AUTHENTICATION = QE_REPORT_SIGNATURE + 64
const PEM = AUTHENTICATION + 2 + 32 + 6
const END = QUOTE.length - parseQuote(QUOTE).trailing

function codeOf(bytes: Uint8Array, options: VerifyOptions = GENUINE): string | undefined {
  const verdict = verifyQuote(bytes, options)
  const reason = reasonOf(verdict)
  assert.equal(verdict.accepted, reason === undefined)
  return reason?.code
}

function flip(at: number, mask = 1): Uint8Array {
  const changed = QUOTE.slice()
  changed[at] = (changed[at] ?? 0) ^ mask
  return changed
}

test('the pinned root is the Intel SGX Root CA', () => {
  assert.equal(
    createHash('sha256').update(intelSgxRoot()).digest('hex'),
    '44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3',
  )
  assert.equal(toHex(intelSgxRoot()), toHex(fixture('intel-sgx-root-ca.der')))
})

test('a real quote is accepted, step by step', () => {
  const reportData = QUOTE.slice(REPORT_DATA, REPORT_DATA + 64)
  const verdict = verifyQuote(QUOTE, { ...GENUINE, reportData })
  assert.ok(verdict.accepted)
  assert.deepEqual(
    verdict.steps.map(({ name }) => name),
    [
      'quote format',
      'PCK certificate chain',
      'QE report signature',
      'attestation key',
      'quote signature',
      'revocation',
      'TCB info',
      'QE identity',
      'platform',
      'quoting enclave',
      'TDX module',
      'TCB level',
      'module and enclave level',
      'TCB status',
      'TD attributes',
      'service TD',
      'report data',
    ],
  )
  assert.ok(verdict.steps.every(({ outcome, detail }) => outcome === 'passed' && detail !== ''))
  const { tcb, platform, quote } = verdict.claims ?? {}
  assert.equal(tcb?.status, 'UpToDate')
  assert.deepEqual(tcb?.advisoryIds, [])
  assert.equal(toHex(platform?.fmspc ?? new Uint8Array()), 'b0c06f000000')
  assert.equal(quote?.trailing, 70)
})

test('collateral counts from its first to its last second', () => {
  for (const at of [FROM, TO]) assert.equal(codeOf(QUOTE, { ...GENUINE, at }), undefined)
  assert.equal(codeOf(QUOTE, { ...GENUINE, at: FROM - 1000 }), 'QE_IDENTITY_NOT_YET_VALID')
  assert.equal(codeOf(QUOTE, { ...GENUINE, at: TO + 1000 }), 'CRL_EXPIRED')
  const afterPck = Date.UTC(2033, 0)
  assert.equal(codeOf(QUOTE, { ...GENUINE, at: afterPck }), 'CERTIFICATE_EXPIRED')
  // Judged by the clock, which is past the window.
  assert.equal(codeOf(QUOTE, { collateral: COLLATERAL }), 'CRL_EXPIRED')
})

test('a time that is none is not a time at which all is valid', () => {
  for (const at of [Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(() => verifyQuote(QUOTE, { ...GENUINE, at }), RangeError)
  }
})

test('a platform below every level is refused, and so is collateral of another one', () => {
  const collateral = parseCollateral(fixture('qvl-notcb-collateral.json'))
  const at = Date.parse('2026-03-20T10:41:14Z')
  assert.equal(codeOf(fixture('qvl-notcb.bin'), { collateral, at }), 'TCB_NO_LEVEL')
  assert.equal(codeOf(QUOTE, { collateral, at }), 'TCB_INFO_FOREIGN')
})

test('without collateral a quote is accepted only when that is asked for', () => {
  const refused = verifyQuote(QUOTE, { at: AT })
  assert.equal(reasonOf(refused)?.code, 'COLLATERAL_MISSING')
  const verdict = verifyQuote(QUOTE, { at: AT, collateralRequired: false })
  assert.ok(verdict.accepted)
  assert.equal(verdict.claims?.tcb, undefined)
  for (const name of ['revocation', 'TCB info', 'quoting enclave', 'TCB status', 'collateral']) {
    assert.equal(verdict.steps.find((step) => step.name === name)?.outcome, 'skipped', name)
  }
  // It says what is required, not what is ignored.
  const late = { ...GENUINE, at: TO + 1000, collateralRequired: false }
  assert.equal(codeOf(QUOTE, late), 'CRL_EXPIRED')
})

test('report data are compared in full', () => {
  const expected = QUOTE.slice(REPORT_DATA, REPORT_DATA + 64)
  assert.equal(codeOf(QUOTE, { ...GENUINE, reportData: expected }), undefined)
  expected[63] = (expected[63] ?? 0) ^ 1
  assert.equal(codeOf(QUOTE, { ...GENUINE, reportData: expected }), 'REPORT_DATA_MISMATCH')
  const short = { ...GENUINE, reportData: expected.subarray(0, 32) }
  assert.throws(() => verifyQuote(QUOTE, short), RangeError)
})

test('a debugged TD, and one whose host may interrupt it, are refused by default', () => {
  const at = Date.UTC(2024, 6)
  const judge = (name: string, policy = {}) =>
    codeOf(fixture(name), { at, collateralRequired: false, policy })
  assert.equal(judge('trustee-debug-td.dat'), 'TD_DEBUG')
  assert.equal(judge('trustee-debug-td.dat', { allowDebug: true }), undefined)
  assert.equal(judge('gtg-v4.dat'), 'TD_SEPT_VE')
  assert.equal(judge('gtg-v4.dat', { requireSeptVeDisable: false }), undefined)
})

test('policy is applied as a whole, so that every reason is named', () => {
  const reportData = new Uint8Array(64)
  const options = { at: Date.UTC(2024, 6), reportData }
  const { steps } = verifyQuote(fixture('trustee-debug-td.dat'), options)
  const codes = steps.flatMap(({ code }) => (code === undefined ? [] : [code]))
  assert.deepEqual(codes, ['COLLATERAL_MISSING', 'TD_DEBUG', 'REPORT_DATA_MISMATCH'])
})

test('version 5 with a TDX 1.5 body', () => {
  const quote = parseQuote(fixture('gtg-v5.dat'))
  assert.equal(quote.version, 5)
  assert.equal(quote.teeTcbSvn2?.length, 16)
  assert.equal(quote.mrServiceTd?.length, 48)
  const at = Date.UTC(2026, 2)
  assert.equal(codeOf(fixture('gtg-v5.dat'), { at, collateralRequired: false }), undefined)
})

test('what is no TDX quote is told apart', () => {
  assert.equal(codeOf(fixture('qvl-sgx.bin')), 'QUOTE_NOT_TDX')
  assert.equal(codeOf(new Uint8Array(9000).fill(0xd9)), 'QUOTE_UNSUPPORTED')
  assert.equal(codeOf(new Uint8Array(100).fill(0xd9)), 'QUOTE_VERSION')
  assert.equal(codeOf(new Uint8Array()), 'TRUNCATED')
  assert.equal(verifyQuote(new Uint8Array()).claims, undefined)
})

test('a changed bit is found where it was changed', () => {
  const rows: [at: number, code: string][] = [
    [8, 'QUOTE_SIGNATURE'],
    [47, 'QUOTE_SIGNATURE'],
    [BODY, 'QUOTE_SIGNATURE'],
    [BODY + 328, 'QUOTE_SIGNATURE'],
    [SIGNATURE_LENGTH - 1, 'QUOTE_SIGNATURE'],
    [SIGNATURE, 'QUOTE_SIGNATURE'],
    [ATTESTATION_KEY, 'ATTESTATION_KEY_UNBOUND'],
    [QE_REPORT, 'QE_REPORT_SIGNATURE'],
    [QE_REPORT + 383, 'QE_REPORT_SIGNATURE'],
    [QE_REPORT_SIGNATURE, 'QE_REPORT_SIGNATURE'],
    [AUTHENTICATION + 2, 'ATTESTATION_KEY_UNBOUND'],
    [QE_REPORT - 6, 'QUOTE_CERTIFICATION'],
    [QE_REPORT - 4, 'QUOTE_CERTIFICATION'],
    [SIGNATURE_LENGTH, 'QUOTE_CERTIFICATION'],
    [SIGNATURE_LENGTH + 3, 'QUOTE_SIGNATURE_SIZE'],
    [PEM - 4, 'QUOTE_CERTIFICATION'],
    [PEM - 6, 'PCK_CHAIN'],
  ]
  for (const [at, code] of rows) assert.equal(codeOf(flip(at)), code, `byte ${at}`)
})

test('no change before the certificates is ever accepted', () => {
  fc.assert(
    fc.property(fc.nat(PEM - 1), fc.integer({ min: 1, max: 255 }), (at, mask) => {
      assert.notEqual(codeOf(flip(at, mask)), undefined, `byte ${at}`)
    }),
    { numRuns: 300 },
  )
})

test('no change inside the PCK certificate or its authority is ever accepted', () => {
  const text = Buffer.from(QUOTE).toString('latin1')
  const root = text.lastIndexOf('-----BEGIN')
  fc.assert(
    fc.property(fc.integer({ min: PEM, max: root - 1 }), fc.nat(63), (at, digit) => {
      const old = text[at] ?? ''
      const letter = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'[digit] ?? ''
      fc.pre(/[A-Za-z0-9+/]/.test(old) && letter !== old)
      const changed = QUOTE.slice()
      changed[at] = letter.charCodeAt(0)
      assert.notEqual(codeOf(changed), undefined, `byte ${at}`)
    }),
    { numRuns: 200 },
  )
})

test('a quote cut anywhere is unreadable, and padding does not matter', () => {
  for (let length = 0; length < END; length++) {
    assert.equal(codeOf(QUOTE.subarray(0, length)), 'TRUNCATED', `${length} bytes`)
  }
  assert.equal(codeOf(QUOTE.subarray(0, END)), undefined)
  const longer = new Uint8Array(100_000).fill(0xff)
  longer.set(QUOTE.subarray(0, END))
  assert.equal(codeOf(longer), undefined)
})

test('no change of a signed text of the collateral is ever accepted', () => {
  const { tcbInfo } = COLLATERAL
  fc.assert(
    fc.property(fc.nat(tcbInfo.text.length - 1), fc.integer({ min: 32, max: 126 }), (at, code) => {
      const letter = String.fromCharCode(code)
      fc.pre(letter !== tcbInfo.text[at])
      const text = tcbInfo.text.slice(0, at) + letter + tcbInfo.text.slice(at + 1)
      const collateral = { ...COLLATERAL, tcbInfo: { ...tcbInfo, text } }
      assert.equal(codeOf(QUOTE, { ...GENUINE, collateral }), 'TCB_INFO_SIGNATURE')
    }),
    { numRuns: 30 },
  )
})

test('bytes at random are refused, whatever they begin with', () => {
  const tail = fc.uint8Array({ maxLength: 2000 })
  fc.assert(
    fc.property(fc.nat(1200), tail, (kept, rest) => {
      const bytes = Buffer.concat([QUOTE.subarray(0, kept), rest])
      assert.notEqual(codeOf(bytes), undefined)
    }),
  )
})

test('collateral: all spellings of the same thing give the same verdict', () => {
  const fields = JSON.parse(Buffer.from(COLLATERAL_FILE).toString())
  const rootCrl = Buffer.from(fields.root_ca_crl, 'hex').toString('base64')
  const { tcb_info_signature, qe_identity_signature, ...rest } = fields
  const spellings = [
    { ...fields, root_ca_crl: rootCrl },
    { ...fields, root_ca_crl: `-----BEGIN X509 CRL-----\n${rootCrl}\n-----END X509 CRL-----\n` },
    { ...fields, tcb_info_issuer_chain: encodeURIComponent(fields.tcb_info_issuer_chain) },
    {
      ...rest,
      tcb_info: `{"tcbInfo":${fields.tcb_info},"signature":"${tcb_info_signature}"}`,
      qe_identity: `{"enclaveIdentity":${fields.qe_identity},"signature":"${qe_identity_signature}"}`,
    },
  ]
  for (const spelling of spellings) {
    const collateral = parseCollateral(JSON.stringify(spelling))
    assert.equal(codeOf(QUOTE, { ...GENUINE, collateral }), undefined)
    assert.deepEqual(collateral.tcbInfo.text, COLLATERAL.tcbInfo.text)
  }
})

test('collateral that cannot be read is named', () => {
  const fields = JSON.parse(Buffer.from(COLLATERAL_FILE).toString())
  const code = (file: string) => {
    try {
      parseCollateral(file)
    } catch (error) {
      if (error instanceof EvidenceError) return error.code
      throw error
    }
    return undefined
  }
  const broken = [
    '',
    '[]',
    'null',
    '{}',
    JSON.stringify({ ...fields, pck_crl: 7 }),
    JSON.stringify({ ...fields, pck_crl: 'not hex, not base64' }),
    JSON.stringify({ ...fields, pck_crl: '-----BEGIN CERTIFICATE-----' }),
    JSON.stringify({ ...fields, tcb_info_signature: 'ab' }),
    JSON.stringify({ ...fields, tcb_info_signature: undefined }),
    JSON.stringify({ ...fields, tcb_info: JSON.parse(fields.tcb_info) }),
    JSON.stringify({ ...fields, qe_identity_issuer_chain: '-----BEGIN%20%zz' }),
  ]
  for (const file of broken) assert.equal(code(file), 'COLLATERAL_MALFORMED', file.slice(0, 80))
  assert.equal(code('['.repeat(100_000)), 'COLLATERAL_MALFORMED')
  assert.equal(code(' '.repeat(3_000_000)), 'COLLATERAL_TOO_LONG')
  fc.assert(
    fc.property(fc.json(), (file) => {
      assert.equal(code(file), 'COLLATERAL_MALFORMED')
    }),
  )
})

test('TCB info is read with its limits', () => {
  const { tcbInfo } = JSON.parse(Buffer.from(fixture('gtg-tcbinfo-v4.json')).toString())
  const info = readTcbInfo(JSON.stringify(tcbInfo))
  assert.equal(toHex(info.fmspc), '50806f000000')
  assert.equal(info.issueDate, Date.parse(tcbInfo.issueDate))
  const refused = [
    { version: 4 },
    { fmspc: '50806f0000' },
    { fmspc: '50806f00000g' },
    { nextUpdate: '2023-13-18T08:42:58Z' },
    { nextUpdate: 'Sun, 18 Jun 2023 08:42:58 GMT' },
    { tcbLevels: [] },
    { tcbLevels: Array.from({ length: 257 }, () => tcbInfo.tcbLevels[0]) },
    { tcbLevels: [{ ...tcbInfo.tcbLevels[0], tcbStatus: 'Fine' }] },
  ]
  for (const change of refused) {
    const text = JSON.stringify({ ...tcbInfo, ...change })
    assert.throws(() => readTcbInfo(text), { code: 'TCB_INFO_MALFORMED' }, text.slice(0, 120))
  }
})

test("the quoting enclave's identity is read with its limits", () => {
  const { enclaveIdentity } = JSON.parse(Buffer.from(fixture('gtg-qeidentity.json')).toString())
  const identity = readQeIdentity(JSON.stringify(enclaveIdentity))
  assert.equal(toHex(identity.mrsigner), enclaveIdentity.mrsigner.toLowerCase())
  assert.equal(identity.isvprodid, 2)
  for (const change of [
    { id: 'QE' },
    { version: 1 },
    { attributesMask: 'FF' },
    { isvprodid: -1 },
  ]) {
    const text = JSON.stringify({ ...enclaveIdentity, ...change })
    assert.throws(() => readQeIdentity(text), { code: 'QE_IDENTITY_MALFORMED' }, text)
  }
})

test('a TDREPORT has one length', () => {
  for (const length of [0, 1023, 1025]) {
    assert.throws(() => parseTdReport(new Uint8Array(length)), { code: 'TDREPORT_LENGTH' })
  }
  const report = parseTdReport(fixture('gtg-tdreport.dat'))
  assert.equal(toHex(report.cpuSvn), 'ab85acdd56908227b01d158b232736fc')
})
