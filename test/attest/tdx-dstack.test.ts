import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fromHex, toHex } from '../../src/attest/hex.ts'
import { parseCollateral } from '../../src/attest/tdx/collateral.ts'
import { parseQuote, type Quote } from '../../src/attest/tdx/quote.ts'
import { verifyQuote } from '../../src/attest/tdx/verify.ts'
import { reasonOf } from '../../src/attest/verdict.ts'
import { parseCrl } from '../../src/x509/crl.ts'
import { vectors } from '../helpers/vectors.ts'

interface CollateralVector {
  readonly quote: string
  readonly tcb_eval: number
  readonly use_now_between: readonly [string, string]
  readonly pck_crl_revoked: number
  readonly root_crl_revoked: number
  readonly tcb_evaluation: {
    readonly pcesvn: number
    readonly cpusvn: string
    readonly tcb_level_status: string | null
    readonly tcb_level_date: string | null
    readonly tdx_module_id: string
    readonly tdx_module_status: string
    readonly qe_isvsvn: number
    readonly qe_status: string
  }
}

const folder = vectors('dstack') ?? ''
const skip = folder === '' && '../shared/vectors is not here'
const expected =
  folder === '' ? {} : JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8'))
const quotes: [string, Record<string, unknown>][] = Object.entries(expected.quotes ?? {})
const collaterals: [string, CollateralVector][] = Object.entries(expected.collateral ?? {})

/** Quotes lie there as bytes, as hex with or without `0x`, and inside GetQuote answers. */
function readQuote(file: string): Uint8Array {
  const bytes = readFileSync(join(folder, file))
  if (file.endsWith('.bin')) return new Uint8Array(bytes)
  const text = bytes.toString()
  const hex = file.endsWith('.json') ? JSON.parse(text).quote : text
  return fromHex(hex.trim().replace(/^0x/, ''), file)
}

test('the quotes of dstack are here', { skip }, () => assert.equal(quotes.length, 8))

for (const [file, values] of quotes) {
  test(`${file}: values and signatures`, () => {
    const bytes = readQuote(file)
    const quote = parseQuote(bytes)
    for (const [field, value] of Object.entries(fieldsOf(quote))) {
      assert.equal(value, values[field], field)
    }
    assert.equal(bytes.length, values.quote_len_with_padding)
    const verdict = verifyQuote(bytes, {
      at: Date.parse(String(values.pck_leaf_not_before)),
      collateralRequired: false,
    })
    assert.ok(verdict.accepted, reasonOf(verdict)?.detail)
    assert.equal(toHex(verdict.claims?.platform?.fmspc ?? new Uint8Array()), values.fmspc)
    assert.equal(toHex(verdict.claims?.platform?.ppid ?? new Uint8Array()), values.ppid)
    const late = Date.parse(String(values.pck_leaf_not_after)) + 1000
    const expired = verifyQuote(bytes, { at: late, collateralRequired: false })
    assert.equal(reasonOf(expired)?.code, 'CERTIFICATE_EXPIRED')
  })
}

for (const [file, vector] of collaterals) {
  test(`${file}: the verdict inside its window, and outside`, () => {
    const quote = readQuote(vector.quote)
    const collateral = parseCollateral(readFileSync(join(folder, file)))
    assert.equal(parseCrl(collateral.pckCrl).revoked.size, vector.pck_crl_revoked)
    assert.equal(parseCrl(collateral.rootCrl).revoked.size, vector.root_crl_revoked)
    const judge = (at: number) => verifyQuote(quote, { collateral, at })
    const [from, to] = vector.use_now_between.map((text) => Date.parse(text))
    assert.ok(from !== undefined && to !== undefined)
    const evaluation = vector.tcb_evaluation
    for (const at of [from, (from + to) / 2, to]) {
      const verdict = judge(at)
      const { tcb, platform, quote: parsed } = verdict.claims ?? {}
      assert.equal(platform?.pceSvn, evaluation.pcesvn)
      assert.equal(toHex(platform?.cpuSvn ?? new Uint8Array()), evaluation.cpusvn)
      assert.equal(parsed?.signature.qeReport.isvSvn, evaluation.qe_isvsvn)
      if (evaluation.tcb_level_status === null) {
        assert.equal(reasonOf(verdict)?.code, 'TCB_NO_LEVEL')
        continue
      }
      assert.ok(verdict.accepted, reasonOf(verdict)?.detail)
      assert.equal(tcb?.platform.tcbStatus, evaluation.tcb_level_status)
      assert.equal(tcb?.date, Date.parse(evaluation.tcb_level_date ?? ''))
      assert.equal(tcb?.module?.tcbStatus, evaluation.tdx_module_status)
      assert.equal(tcb?.qe.tcbStatus, evaluation.qe_status)
      assert.equal(tcb?.evaluationNumber, vector.tcb_eval)
      const module = verdict.steps.find(({ name }) => name === 'TDX module')
      assert.equal(module?.detail, evaluation.tdx_module_id)
    }
    for (const at of [from - 1000, to + 1000]) assert.equal(judge(at).accepted, false)
  })
}

test('collateral of another platform is refused', { skip }, () => {
  const [[file, { quote, use_now_between }] = ['', { quote: '', use_now_between: ['', ''] }]] =
    collaterals
  const at = Date.parse(use_now_between[0])
  for (const [other] of collaterals.filter(([name]) => name !== file)) {
    const collateral = parseCollateral(readFileSync(join(folder, other)))
    assert.equal(verifyQuote(readQuote(quote), { collateral, at }).accepted, false)
  }
})

function fieldsOf(quote: Quote): Record<string, unknown> {
  const { signature } = quote
  const five = quote.version === 5
  const optional = (name: string, bytes: Uint8Array | undefined) =>
    bytes === undefined ? {} : { [name]: toHex(bytes) }
  return {
    version: quote.version,
    qe_vendor_id: toHex(quote.qeVendorId),
    user_data: toHex(quote.userData),
    ...(five ? { body_size: quote.signed.length - 54 } : {}),
    tee_tcb_svn: toHex(quote.teeTcbSvn),
    mr_seam: toHex(quote.mrSeam),
    mr_signer_seam: toHex(quote.mrSignerSeam),
    seam_attributes: toHex(quote.seamAttributes),
    td_attributes: toHex(quote.tdAttributes),
    xfam: toHex(quote.xfam),
    mr_td: toHex(quote.mrtd),
    mr_config_id: toHex(quote.mrConfigId),
    mr_owner: toHex(quote.mrOwner),
    mr_owner_config: toHex(quote.mrOwnerConfig),
    rt_mr0: toHex(quote.rtmr[0]),
    rt_mr1: toHex(quote.rtmr[1]),
    rt_mr2: toHex(quote.rtmr[2]),
    rt_mr3: toHex(quote.rtmr[3]),
    report_data: toHex(quote.reportData),
    ...optional('tee_tcb_svn2', quote.teeTcbSvn2),
    ...optional('mr_service_td', quote.mrServiceTd),
    qe_report_sha256: createHash('sha256').update(signature.qeReport.bytes).digest('hex'),
    qe_auth_data_len: signature.authenticationData.length,
    inner_cert_data_len: signature.certification.data.length,
  }
}
