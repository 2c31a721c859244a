import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { toHex } from '../../src/attest/hex.ts'
import { parseCollateral } from '../../src/attest/tdx/collateral.ts'
import { type PckPlatform, pckOf } from '../../src/attest/tdx/pck.ts'
import { parseQuote, type Quote } from '../../src/attest/tdx/quote.ts'
import { checkModule, checkPlatform, matchLevels, matchSvn } from '../../src/attest/tdx/tcb.ts'
import { readTcbInfo, type TcbStatus } from '../../src/attest/tdx/tcb-info.ts'
import type { TdBody } from '../../src/attest/tdx/td-body.ts'
import { parseTdReport } from '../../src/attest/tdx/tdreport.ts'
import { verifyQuote } from '../../src/attest/tdx/verify.ts'
import { reasonOf } from '../../src/attest/verdict.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { parseCrl } from '../../src/x509/crl.ts'
import { vectors } from '../helpers/vectors.ts'

interface Expectation {
  readonly verdict?: 'accept' | 'reject'
  readonly stage?: string
  readonly stage_any_of?: readonly string[]
  readonly status?: TcbStatus
  readonly status_any_of?: readonly TcbStatus[]
  readonly advisories?: readonly string[]
  readonly advisories_any_of?: readonly (readonly string[])[]
  readonly verdict_if_debug_allowed?: 'accept'
  readonly lenient?: string
  readonly reason?: string
  readonly signature_chain?: 'accept' | 'reject'
  readonly collateral?: string
  readonly at?: string
  readonly tcb?: {
    readonly tcb_info: string
    readonly result?: string
    readonly platform?: string
    readonly module?: string
  }
}

interface Vector {
  readonly name: string
  readonly file: string
  readonly kind?: string
  readonly collateral: string
  readonly at: string
  readonly expect: Expectation
  readonly why: string
  readonly parsed?: Record<string, unknown> & { readonly td?: Record<string, string> }
  readonly pck?: Record<string, unknown>
  readonly qe?: Record<string, unknown>
  readonly chain_valid?: readonly { readonly not_before: string; readonly not_after: string }[]
}

/** The manifest's stage of a failure, by its code. */
const STAGES: readonly (readonly [string, RegExp])[] = [
  ['parse', /^(QUOTE_(?!SIGNATURE$)|TRUNCATED)/],
  ['pck-chain', /^(PCK_CHAIN|PCK_EXTENSION|CERTIFICATE_|ROOT_|PEM_|DER_)/],
  ['revocation', /^(PCK_REVOKED|PCK_CA_REVOKED|TCB_SIGNER_REVOKED|CRL_)/],
  ['qe-report-signature', /^QE_REPORT_SIGNATURE$/],
  ['qe-report-data', /^ATTESTATION_KEY_UNBOUND$/],
  ['quote-signature', /^QUOTE_SIGNATURE$/],
  ['collateral-signature', /^(TCB_INFO|QE_IDENTITY)_SIGNATURE$/],
  ['collateral-date', /^(TCB_INFO|QE_IDENTITY)_(EXPIRED|NOT_YET_VALID)$/],
  ['qe-identity', /^QE_IDENTITY_MISMATCH$/],
  ['tcb', /^(TCB_INFO_FOREIGN|TDX_MODULE_\w+|TCB_NO_LEVEL|TCB_REVOKED|TCB_NOT_ACCEPTED)$/],
  ['td-attributes', /^TD_/],
]

/**
 * The manifest leaves these empty, although the same module level brings its advisory along in
 * good-module-outofdate.
 */
const OPEN_ADVISORIES: Readonly<Record<string, readonly string[]>> = {
  'good-module-outofdate-config': ['LAB-SA-00003'],
}

const ANY_STATUS: readonly TcbStatus[] = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'Revoked',
  'TDRelaunchAdvised',
  'TDRelaunchAdvisedConfigurationNeeded',
]

const stageOf = (code: string | undefined) =>
  STAGES.find(([, codes]) => codes.test(code ?? ''))?.[0]
const json = (path: string) => JSON.parse(readFileSync(path, 'utf8'))
const read = (...path: string[]) => new Uint8Array(readFileSync(join(...path)))
const folder = vectors('tdx')
const skip = folder === undefined && '../shared/vectors is not here'

const synthetic: readonly Vector[] =
  folder === undefined ? [] : json(join(folder, 'synthetic/manifest.json')).vectors
test('synthetic quotes are all here', { skip }, () => assert.equal(synthetic.length, 48))

for (const { name, why, file, collateral, at, expect, parsed } of synthetic) {
  test(`${name}: ${why}`, () => {
    const base = join(folder ?? '', 'synthetic')
    const options = {
      collateral: parseCollateral(read(base, collateral)),
      root: read(base, 'root.der'),
      at: Date.parse(at),
    }
    const judge = (policy = {}) =>
      verifyQuote(read(base, file), {
        ...options,
        policy: { acceptedStatuses: ANY_STATUS, ...policy },
      })
    const verdict = judge()
    const reason = reasonOf(verdict)
    assert.equal(verdict.accepted ? 'accept' : 'reject', expect.verdict, reason?.detail)
    if (expect.stage !== undefined) {
      const stage = stageOf(reason?.code)
      assert.ok(stage, `${reason?.code} has no stage`)
      assert.ok(
        (expect.stage_any_of ?? [expect.stage]).includes(stage),
        `${stage}: ${reason?.detail}`,
      )
    }
    const { tcb, quote } = verdict.claims ?? {}
    if (expect.status !== undefined) {
      assert.ok(tcb)
      assert.ok((expect.status_any_of ?? [expect.status]).includes(tcb.status), tcb.status)
    }
    if (expect.advisories !== undefined) {
      const allowed = expect.advisories_any_of ?? [OPEN_ADVISORIES[name] ?? expect.advisories]
      assert.ok(
        allowed.some((ids) => ids.join() === tcb?.advisoryIds.join()),
        `${tcb?.advisoryIds}`,
      )
    }
    if (expect.verdict_if_debug_allowed !== undefined) {
      assert.ok(judge({ allowDebug: true }).accepted)
    }
    if (expect.lenient === 'policy: may be allowed explicitly') {
      assert.ok(judge({ allowServiceTd: true }).accepted)
    }
    if (parsed !== undefined) {
      assert.ok(quote)
      assertParsed(quote, parsed)
    }
    const strict = verifyQuote(read(base, file), options)
    assert.equal(strict.accepted, verdict.accepted && tcb?.status === 'UpToDate')
  })
}

const real: readonly Vector[] =
  folder === undefined ? [] : json(join(folder, 'manifest.json')).vectors
test('real samples are all here', { skip }, () => assert.equal(real.length, 24))

for (const vector of real.filter(({ kind }) => kind === 'quote')) {
  test(`${vector.name}: signatures and values`, () => {
    const { expect, file, chain_valid = [], parsed, pck, qe } = vector
    const at = Math.max(...chain_valid.map(({ not_before }) => Date.parse(not_before)))
    const policy = { allowDebug: true, requireSeptVeDisable: false }
    const verdict = verifyQuote(read(folder ?? '', file), {
      at: Number.isFinite(at) ? at : Date.now(),
      collateralRequired: false,
      policy,
    })
    const reason = reasonOf(verdict)
    assert.equal(verdict.accepted ? 'accept' : 'reject', expect.signature_chain, reason?.detail)
    if (expect.signature_chain === 'reject') {
      assert.equal(reason?.code, 'QUOTE_NOT_TDX')
      return
    }
    const { quote, platform } = verdict.claims ?? {}
    assert.ok(quote && platform && parsed && pck && qe)
    assertParsed(quote, parsed)
    assertPlatform(platform, pck)
    const { qeReport } = quote.signature
    assert.equal(qeReport.isvSvn, qe.isvsvn)
    assert.equal(qeReport.isvProdId, qe.isvprodid)
    assert.equal(toHex(qeReport.cpuSvn), qe.cpusvn)
    assert.equal(toHex(qeReport.miscSelect), qe.miscselect)
    assert.equal(toHex(qeReport.attributes), qe.attributes)
    assert.equal(toHex(qeReport.mrEnclave), qe.mrenclave)
    assert.equal(toHex(qeReport.mrSigner), qe.mrsigner)
    assert.equal(toHex(qeReport.reportData), qe.reportdata)
  })
}

for (const { name, file, expect } of real.filter(
  ({ expect }) => expect?.collateral !== undefined,
)) {
  test(`${name}: with its collateral`, () => {
    const verdict = verifyQuote(read(folder ?? '', file), {
      collateral: parseCollateral(read(folder ?? '', 'real', expect.collateral ?? '')),
      at: Date.parse(expect.at ?? ''),
    })
    if (expect.status !== undefined) {
      assert.ok(verdict.accepted, reasonOf(verdict)?.detail)
      assert.equal(verdict.claims?.tcb?.status, expect.status)
      assert.deepEqual(verdict.claims?.tcb?.advisoryIds, expect.advisories)
    } else {
      assert.equal(verdict.accepted, false)
      assert.equal(expect.reason, 'no matching TCB level')
      assert.equal(reasonOf(verdict)?.code, 'TCB_NO_LEVEL')
    }
  })
}

for (const { name, file, expect } of real.filter(({ expect }) => expect?.tcb !== undefined)) {
  test(`${name}: levels in its TCB info`, () => {
    const { tcb_info = '', result, platform, module } = expect.tcb ?? {}
    const { tcbInfo } = json(join(folder ?? '', 'real', tcb_info))
    const info = readTcbInfo(JSON.stringify(tcbInfo))
    const quote = parseQuote(read(folder ?? '', file))
    checkPlatform(info, pckOf(quote))
    if (result !== undefined) {
      assert.equal(result, 'no matching level')
      assert.throws(() => matchLevels(info, pckOf(quote), quote), { code: 'TCB_NO_LEVEL' })
      return
    }
    assert.equal(matchLevels(info, pckOf(quote), quote).tdx.tcbStatus, platform)
    const { tcbLevels = [] } = checkModule(info, quote) ?? {}
    assert.equal(matchSvn(tcbLevels, quote.teeTcbSvn[0] ?? 0, 'TDX module').tcbStatus, module)
  })
}

for (const { name, file, parsed = {} } of real.filter(({ kind }) => kind === 'tdreport')) {
  test(`${name}: fields of the TDREPORT`, () => {
    const bytes = read(folder ?? '', file)
    const report = parseTdReport(bytes)
    assert.equal(toHex(bytes.subarray(0, 4)), parsed.report_type)
    const { type, subtype, version } = report
    assert.equal(toHex(Uint8Array.of(type, subtype, version, bytes[3] ?? 0)), parsed.report_type)
    const found = {
      cpusvn: report.cpuSvn,
      tee_tcb_info_hash: report.teeTcbInfoHash,
      tee_info_hash: report.teeInfoHash,
      report_data: report.reportData,
      mac: report.mac,
      tee_tcb_info_valid: report.teeTcbInfoValid,
      tee_tcb_svn: report.teeTcbSvn,
      mrseam: report.mrSeam,
      attributes: report.tdAttributes,
      xfam: report.xfam,
      mrtd: report.mrtd,
      mrconfigid: report.mrConfigId,
      mrowner: report.mrOwner,
      mrownerconfig: report.mrOwnerConfig,
      rtmr0: report.rtmr[0],
      rtmr1: report.rtmr[1],
      rtmr2: report.rtmr[2],
      rtmr3: report.rtmr[3],
      servtd_hash: report.mrServiceTd,
    }
    for (const [field, bytes] of Object.entries(found)) {
      assert.equal(toHex(bytes), parsed[field], field)
    }
  })
}

test('real roots and revocation lists have the entries of the manifest', { skip }, () => {
  const base = join(folder ?? '', 'real')
  assert.equal(parseCertificate(read(base, 'intel-sgx-root-ca.der')).isCa, true)
  assert.equal(parseCrl(read(base, 'gtg-pckcrl.der')).revoked.size, 44)
  const root = parseCrl(read(base, 'gtg-rootcrl.der'))
  assert.equal(root.revoked.size, 0)
  assert.equal(new Date(root.thisUpdate).getUTCFullYear(), 2023)
})

function assertParsed(quote: Quote, parsed: NonNullable<Vector['parsed']>): void {
  assert.equal(quote.version, parsed.version)
  assert.equal(quote.trailing, parsed.trailing)
  assert.equal(quote.signed.length, parsed.signed_len)
  assert.equal(quote.teeTcbSvn2 === undefined ? 2 : 3, parsed.body_type)
  for (const [field, value] of Object.entries(parsed.td ?? {})) {
    assert.equal(fieldsOf(quote)[field], value, field)
  }
}

function fieldsOf(td: TdBody): Record<string, string> {
  const fields = {
    tee_tcb_svn: td.teeTcbSvn,
    mr_seam: td.mrSeam,
    mrsigner_seam: td.mrSignerSeam,
    seam_attributes: td.seamAttributes,
    td_attributes: td.tdAttributes,
    xfam: td.xfam,
    mr_td: td.mrtd,
    mr_config_id: td.mrConfigId,
    mr_owner: td.mrOwner,
    mr_owner_config: td.mrOwnerConfig,
    rtmr0: td.rtmr[0],
    rtmr1: td.rtmr[1],
    rtmr2: td.rtmr[2],
    rtmr3: td.rtmr[3],
    report_data: td.reportData,
    tee_tcb_svn2: td.teeTcbSvn2,
    mr_service_td: td.mrServiceTd,
  }
  return Object.fromEntries(
    Object.entries(fields).flatMap(([name, value]) => (value ? [[name, toHex(value)]] : [])),
  )
}

function assertPlatform(platform: PckPlatform, pck: Record<string, unknown>): void {
  assert.equal(toHex(platform.fmspc), pck.fmspc)
  assert.equal(toHex(platform.pceId), pck.pceid)
  assert.equal(platform.pceSvn, pck.pcesvn)
  assert.equal(toHex(platform.cpuSvn), pck.cpusvn)
  assert.deepEqual(platform.componentSvns, pck.tcb_comp)
  assert.equal(toHex(platform.ppid), pck.ppid)
  assert.equal(
    platform.sgxType,
    ['standard', 'scalable', 'scalable-with-integrity'][Number(pck.sgx_type)],
  )
}
