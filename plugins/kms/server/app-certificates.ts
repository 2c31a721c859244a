import { raTlsExtensions } from '../../../src/attest/ra-tls.ts'
import type { Der } from '../../../src/x509/der-write.ts'
import {
  basicConstraints,
  certificatePem,
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
import { issueLeaf } from '../certificates/leaf.ts'
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
  const { privateKey, publicKey } = p256Key(scalar)
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
 * @param extensions Beside those that follow from the request.
 * @returns PEM.
 * @throws {ApiError} As `issueLeaf`.
 */
export function issueRequested(
  authority: Authority,
  request: SigningRequest,
  extensions: readonly Der[],
): string {
  const [leaf = ''] = issueLeaf(authority, request, request.leaf, extensions)
  return leaf
}
