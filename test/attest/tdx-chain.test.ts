import assert from 'node:assert/strict'
import { createPublicKey } from 'node:crypto'
import { test } from 'node:test'
import { type Collateral, parseCollateral } from '../../src/attest/tdx/collateral.ts'
import { verifyQuote } from '../../src/attest/tdx/verify.ts'
import { reasonOf } from '../../src/attest/verdict.ts'
import { createIdentity, type Identity, type IdentityFields } from '../../src/simulate/identity.ts'
import { createCollateral } from '../../src/simulate/tdx-collateral.ts'
import { createTdxPki, type TdxPki } from '../../src/simulate/tdx-pki.ts'
import { createQuotingEnclave } from '../../src/simulate/tdx-quote.ts'
import { TrustDomain } from '../../src/simulate/trust-domain.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { sequence } from '../../src/x509/der-write.ts'
import { basicConstraints, extension, issueCertificate, keyUsage } from '../../src/x509/issue.ts'

const NOW = Date.UTC(2030, 5)
const PKI = createTdxPki(NOW)
const OTHER = createTdxPki(NOW)
const SGX = '1.2.840.113741.1.13.1'
const PLATFORM = extension(
  SGX,
  false,
  parseCertificate(PKI.pck.certificate).extension(SGX) as Uint8Array,
)

const collateralOf = (pki: TdxPki) => parseCollateral(JSON.stringify(createCollateral(pki, NOW)))
const COLLATERAL = collateralOf(PKI)

/** Why a quote by this chain is refused; undefined when it is accepted. */
function reason(changes: Partial<TdxPki>, collateral: Collateral = COLLATERAL): string | undefined {
  const sign = createQuotingEnclave({ ...PKI, ...changes })
  const quote = sign(new TrustDomain().report(new Uint8Array(64)))
  const root = PKI.root.certificate
  const verdict = verifyQuote(new Uint8Array(quote), { root, at: NOW, collateral })
  assert.equal(verdict.accepted, reasonOf(verdict) === undefined)
  return reasonOf(verdict)?.code
}

function identity(name: string, issuer: Identity, fields: Partial<IdentityFields>): Identity {
  const validity = { validFrom: NOW - 1e6, validTo: NOW + 1e9 }
  const usual = { subject: [['CN', name]], curve: 'P-256', ca: false, ...validity } as const
  return createIdentity({ ...usual, ...fields }, issuer)
}

const authority = (issuer: Identity, fields: Partial<IdentityFields> = {}) =>
  identity('Intel SGX PCK Platform CA', issuer, { ca: true, ...fields })

const leaf = (issuer: Identity, fields: Partial<IdentityFields> = {}) =>
  identity('Intel SGX PCK Certificate', issuer, { extensions: [PLATFORM], ...fields })

/** A chain whose authority was made anew, which no list of the genuine one is about. */
const below = (platformCa: Identity) => ({ platformCa, pck: leaf(platformCa) })

test('a chain that is mixed or grafted is not believed', () => {
  assert.equal(reason({}), undefined)
  assert.equal(reason({ pck: leaf(PKI.platformCa) }), undefined)
  assert.equal(reason(OTHER), 'ROOT_UNKNOWN')
  assert.equal(reason({ ...OTHER, root: PKI.root }), 'CERTIFICATE_NOT_ISSUED')
  assert.equal(reason({ pck: OTHER.pck }), 'CERTIFICATE_NOT_ISSUED')
  assert.equal(reason(below(authority(PKI.platformCa))), 'CERTIFICATE_NOT_ISSUED')
  assert.equal(reason(below(authority(OTHER.root))), 'CERTIFICATE_NOT_ISSUED')
  // A second authority of the root with the same name: the list is the first one's.
  assert.equal(reason(below(authority(PKI.root))), 'CRL_SIGNATURE')
  // Keys of the maker that have another purpose.
  assert.equal(reason({ platformCa: PKI.pck, pck: leaf(PKI.pck) }), 'CERTIFICATE_NAME')
  assert.equal(
    reason({ platformCa: PKI.tcbSigning, pck: leaf(PKI.tcbSigning) }),
    'CERTIFICATE_NAME',
  )
  assert.equal(reason({ platformCa: PKI.root, pck: leaf(PKI.root) }), 'CERTIFICATE_NAME')
})

test('a certificate that does not fit its place is not believed', () => {
  const pck = (fields: Partial<IdentityFields>) => reason({ pck: leaf(PKI.platformCa, fields) })
  const name = 'Intel SGX PCK Certificate'
  assert.equal(pck({ ca: true }), 'PCK_CHAIN')
  assert.equal(pck({ extensions: [] }), 'PCK_EXTENSION')
  assert.equal(pck({ extensions: [PLATFORM, PLATFORM] }), 'DER_MALFORMED')
  assert.equal(pck({ subject: [['CN', `${name}\0`]] }), 'CERTIFICATE_NAME')
  assert.equal(
    pck({
      subject: [
        ['CN', name],
        ['CN', name],
      ],
    }),
    'CERTIFICATE_NAME',
  )
  assert.equal(pck({ validTo: NOW - 1000 }), 'CERTIFICATE_EXPIRED')
  // RFC 5280 §4.2.1.10: names an authority is confined to, which nobody here understands.
  const names = extension('2.5.29.30', true, sequence())
  assert.equal(pck({ extensions: [PLATFORM, names] }), 'CERTIFICATE_CRITICAL_EXTENSION')
  const confined = authority(PKI.root, { extensions: [names] })
  assert.equal(reason(below(confined)), 'CERTIFICATE_CRITICAL_EXTENSION')
  assert.equal(reason(below(authority(PKI.root, { curve: 'P-384' }))), 'CERTIFICATE_ALGORITHM')
  assert.equal(reason(below(authority(PKI.root, { ca: false }))), 'CERTIFICATE_NOT_CA')
})

test('a key that is for something else than signatures makes none', () => {
  const pck = leaf(PKI.platformCa)
  const publicKey = createPublicKey(pck.privateKey)
  const { subject: issuer, privateKey } = PKI.platformCa
  const fields = {
    subject: pck.subject,
    issuer,
    publicKey,
    validFrom: NOW - 1e6,
    validTo: NOW + 1e9,
  }
  const certified = (usage: 'digitalSignature' | 'nonRepudiation') => {
    const extensions = [basicConstraints(false), keyUsage(usage), PLATFORM]
    return { pck: { ...pck, certificate: issueCertificate({ ...fields, extensions }, privateKey) } }
  }
  assert.equal(reason(certified('digitalSignature')), undefined)
  assert.equal(reason(certified('nonRepudiation')), 'CERTIFICATE_KEY_USAGE')
})

test('collateral of another maker, or list for list exchanged, is not believed', () => {
  const foreign = collateralOf(OTHER)
  assert.equal(reason({}, foreign), 'CRL_SIGNATURE')
  assert.equal(reason({}, { ...COLLATERAL, pckCrl: foreign.pckCrl }), 'CRL_SIGNATURE')
  assert.equal(reason({}, { ...COLLATERAL, pckCrl: COLLATERAL.rootCrl }), 'CRL_SIGNATURE')
  assert.equal(reason({}, { ...COLLATERAL, rootCrl: COLLATERAL.pckCrl }), 'CRL_SIGNATURE')
  const { tcbInfo, qeIdentity } = foreign
  assert.equal(reason({}, { ...COLLATERAL, tcbInfo }), 'ROOT_UNKNOWN')
  assert.equal(reason({}, { ...COLLATERAL, qeIdentity }), 'ROOT_UNKNOWN')
  // The genuine signer's certificate shown beside what another one signed.
  const { issuerChain } = COLLATERAL.tcbInfo
  const shown = { ...COLLATERAL, tcbInfo: { ...tcbInfo, issuerChain } }
  assert.equal(reason({}, shown), 'TCB_INFO_SIGNATURE')
})
