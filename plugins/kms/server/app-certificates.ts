import { createPublicKey } from 'node:crypto'
import { raTlsExtensions } from '../../../src/attest/ra-tls.ts'
import { ApiError } from '../../../src/errors.ts'
import { addressBytes } from '../../../src/tls/self-signed.ts'
import { MAX_CERTIFICATE_BYTES } from '../../../src/x509/certificate.ts'
import { type Der, implicit, oid, sequence } from '../../../src/x509/der-write.ts'
import {
  basicConstraints,
  certificatePem,
  extension,
  issueCertificate,
  keyUsage,
  subjectKeyIdentifier,
} from '../../../src/x509/issue.ts'
import {
  type Authority,
  authorityIdentifier,
  DEFAULT_NOT_BEFORE,
  readAuthority,
  TEN_YEARS_MS,
} from '../certificates/authority.ts'
import type { LeafRequest } from '../certificates/leaf.ts'
import { p256Key } from '../certificates/p256-key.ts'
import type { SigningRequest } from './signing-request.ts'

/**
 * The application's own authority below the root (spec dstack §9.5), whose key nobody has but the
 * KMS. Its certificate is made anew each time; the key and the name are what counts.
 *
 * @param scalar P-256, 32 bytes.
 * @param appId 20 bytes.
 */
export function appAuthority(root: Authority, scalar: Uint8Array, appId: Uint8Array): Authority {
  const { privateKey } = p256Key(scalar)
  const publicKey = createPublicKey(privateKey)
  const der = issueCertificate(
    {
      subject: [
        ['O', 'Dstack'],
        ['CN', 'Dstack App CA'],
      ],
      issuer: root.name,
      publicKey,
      validFrom: DEFAULT_NOT_BEFORE,
      validTo: Date.now() + TEN_YEARS_MS,
      extensions: [
        basicConstraints(true, 0),
        keyUsage('digitalSignature', 'keyCertSign', 'cRLSign'),
        subjectKeyIdentifier(publicKey),
        ...authorityIdentifier(root),
        ...raTlsExtensions({ appId, usage: 'app:ca' }),
      ],
    },
    root.privateKey,
  )
  return readAuthority([certificatePem(der), ...root.chain].join(''), privateKey)
}

/**
 * The certificate that was asked for.
 *
 * @param request Whose names and validity were found to be issuable.
 * @param extensions Beside those that follow from the request.
 * @returns PEM.
 * @throws {ApiError} 409 `CERTIFICATE_TOO_LARGE` for one larger than peers read.
 */
export function issueRequested(
  authority: Authority,
  { leaf, organization, publicKey }: SigningRequest,
  extensions: readonly Der[],
): string {
  const { subject, notBefore, notAfter } = leaf
  const der = issueCertificate(
    {
      subject: [
        ...(organization === undefined ? [] : [['O', organization] as const]),
        ...(subject === '' ? [] : [['CN', subject] as const]),
      ],
      issuer: authority.name,
      publicKey,
      validFrom: notBefore === undefined ? DEFAULT_NOT_BEFORE : notBefore * 1000,
      validTo: notAfter === undefined ? Date.now() + TEN_YEARS_MS : notAfter * 1000,
      extensions: [
        keyUsage('digitalSignature'),
        ...usages(leaf),
        ...alternativeNames(leaf, organization),
        subjectKeyIdentifier(publicKey),
        ...authorityIdentifier(authority),
        ...extensions,
      ],
    },
    authority.privateKey,
  )
  if (der.length <= MAX_CERTIFICATE_BYTES) return certificatePem(der)
  const why = `it would have ${der.length} bytes, peers read ${MAX_CERTIFICATE_BYTES}`
  throw new ApiError(409, 'CERTIFICATE_TOO_LARGE', `Cannot issue a certificate: ${why}`)
}

/** RFC 5280 §4.2.1.12. */
function usages({ serverAuth, clientAuth }: LeafRequest): readonly Der[] {
  const purposes = [
    ...(serverAuth ? [oid('1.3.6.1.5.5.7.3.1')] : []),
    ...(clientAuth ? [oid('1.3.6.1.5.5.7.3.2')] : []),
  ]
  return purposes.length === 0 ? [] : [extension('2.5.29.37', false, sequence(...purposes))]
}

/** RFC 5280 §4.2.1.6: critical where nothing else names the subject. The names were checked. */
function alternativeNames(
  { subject, altNames }: LeafRequest,
  organization: string | undefined,
): readonly Der[] {
  if (altNames.length === 0) return []
  const names = altNames.map((name) => {
    const address = addressBytes(name)
    return address ? implicit(7, address) : implicit(2, Buffer.from(name, 'latin1'))
  })
  const unnamed = subject === '' && organization === undefined
  return [extension('2.5.29.17', unnamed, sequence(...names))]
}
