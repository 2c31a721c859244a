import { sign } from 'node:crypto'
import { certificatePem, issueCrl } from '../x509/issue.ts'
import type { Identity } from './identity.ts'
import type { TdxPki } from './tdx-pki.ts'
import { PLATFORM, QUOTING_ENCLAVE } from './tdx-platform.ts'

/**
 * Everything a verifier needs beside the quote and the root, in the JSON form of dcap-qvl: PEM
 * chains, revocation lists and signatures in hex, the signed texts as strings.
 */
export interface TdxCollateral {
  readonly pck_crl_issuer_chain: string
  readonly root_ca_crl: string
  readonly pck_crl: string
  readonly tcb_info_issuer_chain: string
  readonly tcb_info: string
  readonly tcb_info_signature: string
  readonly qe_identity_issuer_chain: string
  readonly qe_identity: string
  readonly qe_identity_signature: string
}

const HOUR_MS = 3600 * 1000
/** As long as Intel's. */
const LIFETIME_MS = 30 * 24 * HOUR_MS
/** When the only security level there is was reached. */
const TCB_DATE = '2024-03-13T00:00:00Z'

/** Collateral from an hour before `now` (Unix milliseconds) until 30 days after it. */
export function createCollateral(pki: TdxPki, now: number): TdxCollateral {
  const [issued, until] = [now - HOUR_MS, now + LIFETIME_MS]
  const window = { issueDate: isoSeconds(issued), nextUpdate: isoSeconds(until) }
  const signerChain = pemChain(pki.tcbSigning, pki.root)
  const tcbInfo = JSON.stringify({ id: 'TDX', version: 3, ...window, ...tcbInfoContent() })
  const qeIdentity = JSON.stringify({ id: 'TD_QE', version: 2, ...window, ...qeContent() })
  return {
    pck_crl_issuer_chain: pemChain(pki.platformCa, pki.root),
    root_ca_crl: emptyCrl(pki.root, issued, until),
    pck_crl: emptyCrl(pki.platformCa, issued, until),
    tcb_info_issuer_chain: signerChain,
    tcb_info: tcbInfo,
    tcb_info_signature: signText(tcbInfo, pki.tcbSigning),
    qe_identity_issuer_chain: signerChain,
    qe_identity: qeIdentity,
    qe_identity_signature: signText(qeIdentity, pki.tcbSigning),
  }
}

/** One level, which the simulated platform is at. */
function tcbInfoContent() {
  const { fmspc, pceId, pceSvn, componentSvns, teeTcbSvn } = PLATFORM
  const module = {
    mrsigner: '00'.repeat(48),
    attributes: '00'.repeat(8),
    attributesMask: 'FF'.repeat(8),
  }
  const current = { tcbDate: TCB_DATE, tcbStatus: 'UpToDate' }
  const [isvsvn = 0, major = 0] = teeTcbSvn
  return {
    fmspc: hex(fmspc),
    pceId: hex(pceId),
    tcbType: 0,
    tcbEvaluationDataNumber: 17,
    tdxModule: module,
    tdxModuleIdentities: [
      {
        id: `TDX_${hex(Uint8Array.of(major))}`,
        ...module,
        tcbLevels: [{ tcb: { isvsvn }, ...current }],
      },
    ],
    tcbLevels: [
      {
        tcb: {
          sgxtcbcomponents: [...componentSvns].map((svn) => ({ svn })),
          pcesvn: pceSvn,
          tdxtcbcomponents: [...teeTcbSvn].map((svn) => ({ svn })),
        },
        ...current,
      },
    ],
  }
}

function qeContent() {
  const { mrSigner, isvProdId, isvSvn } = QUOTING_ENCLAVE
  return {
    tcbEvaluationDataNumber: 17,
    miscselect: '00'.repeat(4),
    miscselectMask: 'FF'.repeat(4),
    attributes: '11'.padEnd(32, '0'),
    attributesMask: `FB${'FF'.repeat(7)}`.padEnd(32, '0'),
    mrsigner: hex(mrSigner),
    isvprodid: isvProdId,
    tcbLevels: [{ tcb: { isvsvn: isvSvn }, tcbDate: TCB_DATE, tcbStatus: 'UpToDate' }],
  }
}

function emptyCrl(issuer: Identity, thisUpdate: number, nextUpdate: number): string {
  const fields = { issuer: issuer.subject, thisUpdate, nextUpdate, number: 1 }
  return lowerHex(issueCrl(fields, issuer.privateKey))
}

const pemChain = (...chain: readonly Identity[]): string =>
  chain.map(({ certificate }) => certificatePem(certificate)).join('')

/** ECDSA over the exact text: r and s as 128 hex digits. */
function signText(text: string, { privateKey }: Identity): string {
  const key = { key: privateKey, dsaEncoding: 'ieee-p1363' } as const
  return lowerHex(sign('sha256', Buffer.from(text), key))
}

const isoSeconds = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`
const lowerHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
/** Intel writes capitals inside the signed texts. */
const hex = (bytes: Uint8Array): string => lowerHex(bytes).toUpperCase()
