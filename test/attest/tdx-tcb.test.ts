import assert from 'node:assert/strict'
import { sign } from 'node:crypto'
import { test } from 'node:test'
import { parseCollateral } from '../../src/attest/tdx/collateral.ts'
import type { TcbStatus } from '../../src/attest/tdx/tcb-info.ts'
import { type VerifyOptions, verifyQuote } from '../../src/attest/tdx/verify.ts'
import { reasonOf } from '../../src/attest/verdict.ts'
import { createIdentity, type Identity } from '../../src/simulate/identity.ts'
import { createCollateral, type TdxCollateral } from '../../src/simulate/tdx-collateral.ts'
import { createTdxPki, type TdxPki } from '../../src/simulate/tdx-pki.ts'
import { createQuotingEnclave } from '../../src/simulate/tdx-quote.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { certificatePem, issueCrl } from '../../src/x509/issue.ts'

/**
 * Quotes and collateral made to order under a root of the tests' own. The simulated platform has
 * PCE 11, SGX component 0 at 3, a module of version 1 at SVN 5 with microcode 2, and an enclave
 * at SVN 4.
 */
const NOW = Date.UTC(2030, 5, 1)
const PKI = createTdxPki(NOW)
const signQuote = createQuotingEnclave(PKI)
const GENUINE = createCollateral(PKI, NOW)

interface TdFields {
  readonly svn?: readonly number[]
  readonly svn2?: readonly number[]
  readonly attributes?: bigint
  readonly version?: 4 | 5
}

/** A quote; offsets are those of the TDREPORT (spec tdx §5). */
function quote({
  svn = [5, 1, 2],
  svn2 = svn,
  attributes = 1n << 28n,
  version = 5,
}: TdFields = {}) {
  const report = Buffer.alloc(1024)
  report.set(svn, 264)
  report.set(svn2, 384)
  report.writeBigUInt64LE(attributes, 512)
  return signQuote(report, version)
}

// The texts are Intel's JSON; tests change what they like in them.
// biome-ignore lint/suspicious/noExplicitAny: any shape is part of the test
type Edit = (text: any) => void

function resign(signer: Identity, text: string): string {
  const key = { key: signer.privateKey, dsaEncoding: 'ieee-p1363' } as const
  return sign('sha256', Buffer.from(text), key).toString('hex')
}

function edited(text: string, edit: Edit): string {
  const value = JSON.parse(text)
  edit(value)
  return JSON.stringify(value)
}

/** Collateral with changed texts, signed anew. */
function collateral(tcb: Edit = () => {}, qe: Edit = () => {}, signer = PKI.tcbSigning) {
  const [tcb_info, qe_identity] = [edited(GENUINE.tcb_info, tcb), edited(GENUINE.qe_identity, qe)]
  const chain = [signer, PKI.root].map(({ certificate }) => certificatePem(certificate)).join('')
  return read({
    ...GENUINE,
    tcb_info,
    tcb_info_signature: resign(signer, tcb_info),
    tcb_info_issuer_chain: chain,
    qe_identity,
    qe_identity_signature: resign(signer, qe_identity),
    qe_identity_issuer_chain: chain,
  })
}

const read = (fields: TdxCollateral) => parseCollateral(JSON.stringify(fields))

function judge(bytes: Uint8Array, options: VerifyOptions) {
  return verifyQuote(bytes, { root: PKI.root.certificate, at: NOW, ...options })
}

const statusOf = (td: TdFields, tcb?: Edit, qe?: Edit): TcbStatus | string | undefined => {
  const verdict = judge(quote(td), { collateral: collateral(tcb, qe) })
  return verdict.claims?.tcb?.status ?? reasonOf(verdict)?.code
}

const level = (svn: number, tcbStatus: string, advisoryIDs: string[] = []) => ({
  tcb: { isvsvn: svn },
  tcbDate: '2028-01-01T00:00:00Z',
  tcbStatus,
  advisoryIDs,
})

test('statuses of platform, module and enclave are merged as Intel does', () => {
  const rows: [platform: string, module: string, enclave: string, merged: TcbStatus][] = [
    ['UpToDate', 'UpToDate', 'UpToDate', 'UpToDate'],
    ['SWHardeningNeeded', 'UpToDate', 'UpToDate', 'SWHardeningNeeded'],
    ['UpToDate', 'OutOfDate', 'UpToDate', 'OutOfDate'],
    ['UpToDate', 'UpToDate', 'OutOfDate', 'OutOfDate'],
    ['SWHardeningNeeded', 'UpToDate', 'OutOfDate', 'OutOfDate'],
    ['ConfigurationNeeded', 'OutOfDate', 'UpToDate', 'OutOfDateConfigurationNeeded'],
    ['ConfigurationAndSWHardeningNeeded', 'UpToDate', 'OutOfDate', 'OutOfDateConfigurationNeeded'],
    ['OutOfDate', 'UpToDate', 'UpToDate', 'OutOfDate'],
    ['OutOfDateConfigurationNeeded', 'OutOfDate', 'OutOfDate', 'OutOfDateConfigurationNeeded'],
    ['Revoked', 'UpToDate', 'UpToDate', 'Revoked'],
    ['UpToDate', 'Revoked', 'UpToDate', 'Revoked'],
    ['OutOfDate', 'OutOfDate', 'Revoked', 'Revoked'],
  ]
  for (const [platform, module, enclave, merged] of rows) {
    const status = statusOf(
      { version: 4 },
      (text) => {
        text.tcbLevels[0].tcbStatus = platform
        text.tdxModuleIdentities[0].tcbLevels[0].tcbStatus = module
      },
      (text) => {
        text.tcbLevels[0].tcbStatus = enclave
      },
    )
    assert.equal(status, merged, `${platform}, ${module}, ${enclave}`)
  }
})

test('advisories come from all three, once each', () => {
  const verdict = judge(quote(), {
    collateral: collateral(
      (text) => {
        text.tcbLevels[0].advisoryIDs = ['SA-1', 'SA-2']
        text.tdxModuleIdentities[0].tcbLevels = [level(5, 'UpToDate', ['SA-2', 'SA-3'])]
      },
      (text) => {
        text.tcbLevels = [level(4, 'UpToDate', ['SA-1', 'SA-4'])]
      },
    ),
  })
  assert.deepEqual(verdict.claims?.tcb?.advisoryIds, ['SA-1', 'SA-2', 'SA-3', 'SA-4'])
})

test('the first level that is reached counts, none is a refusal', () => {
  const raise = (place: string, index: number, by: number): Edit => {
    return ({ tcbLevels }) => {
      const lower = structuredClone(tcbLevels[0])
      tcbLevels.push({ ...lower, tcbStatus: 'OutOfDate' })
      tcbLevels[0].tcb[place][index].svn += by
    }
  }
  assert.equal(statusOf({}, raise('sgxtcbcomponents', 0, 1)), 'OutOfDate')
  assert.equal(statusOf({}, raise('sgxtcbcomponents', 15, 1)), 'OutOfDate')
  assert.equal(statusOf({}, raise('tdxtcbcomponents', 2, 1)), 'OutOfDate')
  assert.equal(statusOf({}, raise('tdxtcbcomponents', 2, -1)), 'UpToDate')
  // The first two describe the module, which has levels of its own from version 1 on.
  assert.equal(statusOf({}, raise('tdxtcbcomponents', 0, 9)), 'UpToDate')
  assert.equal(statusOf({}, raise('tdxtcbcomponents', 1, 9)), 'UpToDate')
  const lowPce: Edit = ({ tcbLevels }) => {
    tcbLevels[0].tcb.pcesvn = 12
  }
  assert.equal(statusOf({}, lowPce), 'TCB_NO_LEVEL')
  assert.equal(statusOf({ svn: [4, 1, 2] }), 'TCB_NO_LEVEL')
  assert.equal(
    statusOf({}, undefined, (text) => {
      text.tcbLevels = [level(5, 'UpToDate')]
    }),
    'TCB_NO_LEVEL',
  )
})

test('a module of major version 0 is judged by the platform level alone', () => {
  assert.equal(statusOf({ svn: [5, 0, 2] }), 'TCB_NO_LEVEL')
  const first: Edit = ({ tcbLevels }) => {
    tcbLevels[0].tcb.tdxtcbcomponents[1].svn = 0
  }
  assert.equal(statusOf({ svn: [5, 0, 2] }, first), 'UpToDate')
  assert.equal(statusOf({ svn: [4, 0, 2] }, first), 'TCB_NO_LEVEL')
  const signer: Edit = (text) => {
    first(text)
    text.tdxModule.mrsigner = '11'.repeat(48)
  }
  assert.equal(statusOf({ svn: [5, 0, 2] }, signer), 'TDX_MODULE_MISMATCH')
})

test('modules are found by their version', () => {
  assert.equal(statusOf({ svn: [5, 2, 2] }), 'TDX_MODULE_UNKNOWN')
  const rename: Edit = ({ tdxModuleIdentities }) => {
    tdxModuleIdentities[0].id = 'TDX_1a'
  }
  assert.equal(statusOf({ svn: [5, 0x1a, 2] }, rename), 'UpToDate')
  const attributes: Edit = ({ tdxModuleIdentities }) => {
    tdxModuleIdentities[0].attributes = '0000000000000001'
  }
  assert.equal(statusOf({}, attributes), 'TDX_MODULE_MISMATCH')
})

test('TDX 1.5: a module updated under a running TD asks for a new start', () => {
  const old: Edit = ({ tdxModuleIdentities }) => {
    tdxModuleIdentities[0].tcbLevels = [level(6, 'UpToDate'), level(5, 'OutOfDate')]
  }
  const updated = { svn: [5, 1, 2], svn2: [6, 1, 2] }
  assert.equal(statusOf(updated, old), 'TDRelaunchAdvised')
  assert.equal(statusOf({ ...updated, version: 4 }, old), 'OutOfDate')
  assert.equal(statusOf({ ...updated, svn2: [5, 1, 2] }, old), 'OutOfDate')
  assert.equal(statusOf({ ...updated, svn2: [6, 1, 1] }, old), 'OutOfDate')
  assert.equal(statusOf({ ...updated, svn2: [6, 2, 2] }, old), 'TDX_MODULE_UNKNOWN')
  // Of major version 0 the newest platform level speaks.
  assert.equal(statusOf({ ...updated, svn2: [5, 0, 2] }, old), 'TDRelaunchAdvised')
  assert.equal(statusOf({ ...updated, svn2: [4, 0, 2] }, old), 'OutOfDate')
  const configure: Edit = (text) => {
    old(text)
    text.tcbLevels[0].tcbStatus = 'ConfigurationNeeded'
  }
  assert.equal(statusOf(updated, configure), 'TDRelaunchAdvisedConfigurationNeeded')
  const platform: Edit = (text) => {
    old(text)
    text.tcbLevels[0].tcbStatus = 'OutOfDate'
  }
  assert.equal(statusOf(updated, platform), 'OutOfDate')
  const enclave: Edit = (text) => {
    text.tcbLevels = [level(4, 'OutOfDate')]
  }
  assert.equal(statusOf(updated, old, enclave), 'OutOfDate')
})

test('policy: which statuses are accepted, and Revoked never', () => {
  const verdict = (status: string, ...acceptedStatuses: TcbStatus[]) =>
    judge(quote(), {
      collateral: collateral((text) => {
        text.tcbLevels[0].tcbStatus = status
      }),
      policy: acceptedStatuses.length > 0 ? { acceptedStatuses } : {},
    })
  assert.ok(verdict('UpToDate').accepted)
  assert.equal(reasonOf(verdict('OutOfDate'))?.code, 'TCB_NOT_ACCEPTED')
  assert.ok(verdict('OutOfDate', 'OutOfDate').accepted)
  assert.equal(reasonOf(verdict('UpToDate', 'OutOfDate'))?.code, 'TCB_NOT_ACCEPTED')
  assert.equal(reasonOf(verdict('Revoked', 'UpToDate', 'Revoked'))?.code, 'TCB_REVOKED')
})

test('policy: attributes of the TD', () => {
  const reason = (attributes: bigint, policy = {}) =>
    reasonOf(judge(quote({ attributes }), { collateral: collateral(), policy }))?.code
  const sept = 1n << 28n
  assert.equal(reason(sept), undefined)
  assert.equal(reason(sept | (1n << 30n) | (1n << 31n) | (1n << 63n)), undefined)
  assert.equal(reason(0n), 'TD_SEPT_VE')
  assert.equal(reason(0n, { requireSeptVeDisable: false }), undefined)
  assert.equal(reason(sept | 1n), 'TD_DEBUG')
  assert.equal(reason(sept | 1n, { allowDebug: true }), undefined)
  for (const bit of [1n, 7n, 8n, 27n, 29n, 32n, 62n]) {
    const policy = { allowDebug: true, allowServiceTd: true }
    assert.equal(reason(sept | (1n << bit), policy), 'TD_ATTRIBUTES_RESERVED', `${bit}`)
  }
})

test('texts signed by others, or not what they should be, are refused', () => {
  const reason = (options: VerifyOptions) => reasonOf(judge(quote(), options))?.code
  const same = { curve: 'P-256', validFrom: NOW - 1e6, validTo: NOW + 1e9, ca: false } as const
  const signer = (name: string, issuer: Identity) =>
    createIdentity({ ...same, subject: [['CN', name]] }, issuer)
  const by = (identity: Identity) => collateral(undefined, undefined, identity)
  assert.equal(reason({ collateral: by(signer('Intel SGX TCB Signing', PKI.root)) }), undefined)
  const stranger = createTdxPki(NOW)
  assert.equal(reason({ collateral: by(stranger.tcbSigning) }), 'CERTIFICATE_NOT_ISSUED')
  assert.equal(reason({ collateral: by(PKI.pck) }), 'CERTIFICATE_NAME')
  const below = signer('Intel SGX TCB Signing', PKI.platformCa)
  assert.equal(reason({ collateral: by(below) }), 'CERTIFICATE_NOT_ISSUED')
  const wrongCurve = createIdentity(
    { ...same, curve: 'P-384', subject: [['CN', 'Intel SGX TCB Signing']] },
    PKI.root,
  )
  // Its own signatures would be too long to be read at all.
  const short = { ...wrongCurve, privateKey: PKI.tcbSigning.privateKey }
  assert.equal(reason({ collateral: by(short) }), 'CERTIFICATE_ALGORITHM')

  const sgx: Edit = (text) => {
    text.id = 'SGX'
  }
  assert.equal(reason({ collateral: collateral(sgx) }), 'TCB_INFO_MALFORMED')
  assert.equal(reason({ collateral: collateral(undefined, sgx) }), 'QE_IDENTITY_MALFORMED')
  const swapped = { ...GENUINE, tcb_info: GENUINE.qe_identity }
  swapped.tcb_info_signature = GENUINE.qe_identity_signature
  assert.equal(reason({ collateral: read(swapped) }), 'TCB_INFO_MALFORMED')
  const platform: Edit = (text) => {
    text.pceId = '0001'
  }
  assert.equal(reason({ collateral: collateral(platform) }), 'TCB_INFO_FOREIGN')
  const future: Edit = (text) => {
    text.issueDate = '2030-06-02T00:00:00Z'
  }
  assert.equal(reason({ collateral: collateral(future) }), 'TCB_INFO_NOT_YET_VALID')
  const attributes: Edit = (text) => {
    text.attributes = `15${text.attributes.slice(2)}`
  }
  assert.equal(reason({ collateral: collateral(undefined, attributes) }), 'QE_IDENTITY_MISMATCH')
})

test('revocation lists: of others, too early, too late, and naming the signers', () => {
  const list = (issuer: Identity, more: object = {}) => {
    const window = { thisUpdate: NOW - 1000, nextUpdate: NOW + 1000 }
    const fields = { issuer: issuer.subject, ...window, number: 1, ...more }
    const der = issueCrl(fields, issuer.privateKey)
    return Buffer.from(der).toString('hex')
  }
  const serial = ({ certificate }: Identity) => parseCertificate(certificate).serial
  const reason = (fields: Partial<TdxCollateral>) =>
    reasonOf(judge(quote(), { collateral: read({ ...GENUINE, ...fields }) }))?.code
  const { root, platformCa, pck, tcbSigning }: TdxPki = PKI
  assert.equal(reason({ root_ca_crl: list(root), pck_crl: list(platformCa) }), undefined)
  assert.equal(reason({ pck_crl: list(root) }), 'CRL_SIGNATURE')
  assert.equal(reason({ root_ca_crl: list(platformCa) }), 'CRL_SIGNATURE')
  assert.equal(reason({ pck_crl: list({ ...pck, subject: platformCa.subject }) }), 'CRL_SIGNATURE')
  assert.equal(reason({ pck_crl: list(platformCa, { nextUpdate: NOW - 1 }) }), 'CRL_EXPIRED')
  assert.equal(reason({ root_ca_crl: list(root, { thisUpdate: NOW + 1000 }) }), 'CRL_NOT_YET_VALID')
  assert.equal(reason({ pck_crl: list(platformCa, { revoked: [serial(pck)] }) }), 'PCK_REVOKED')
  const ca = { revoked: [serial(tcbSigning), serial(platformCa)] }
  assert.equal(reason({ root_ca_crl: list(root, ca) }), 'PCK_CA_REVOKED')
  const signer = { revoked: [serial(tcbSigning)] }
  assert.equal(reason({ root_ca_crl: list(root, signer) }), 'TCB_SIGNER_REVOKED')
})
