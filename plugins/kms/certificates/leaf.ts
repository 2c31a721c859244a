import type { KeyObject } from 'node:crypto'
import { ApiError } from '../../../src/errors.ts'
import { addressBytes } from '../../../src/tls/self-signed.ts'
import { MAX_CERTIFICATE_BYTES } from '../../../src/x509/certificate.ts'
import { type Der, implicit, oid, sequence } from '../../../src/x509/der-write.ts'
import {
  certificatePem,
  type DistinguishedName,
  extension,
  issueCertificate,
  keyUsage,
  subjectKeyIdentifier,
} from '../../../src/x509/issue.ts'
import {
  type Authority,
  authorityIdentifier,
  DEFAULT_NOT_BEFORE,
  TEN_YEARS_MS,
} from './authority.ts'

/** What an application wants in a certificate; times are Unix seconds. */
export interface LeafRequest {
  readonly organization?: string | undefined
  /** Common name; empty for none. */
  readonly subject: string
  /** DNS names and IP addresses. */
  readonly altNames: readonly string[]
  readonly serverAuth: boolean
  readonly clientAuth: boolean
  readonly notBefore?: number | undefined
  readonly notAfter?: number | undefined
}

/** 9999-12-31T23:59:59Z, the last second a certificate can name (RFC 5280 §4.1.2.5). */
export const LAST_SECOND = 253_402_300_799

const MAX_NAME_LENGTH = 253

/**
 * Refuses what no certificate can hold, before anything costly is done for it.
 *
 * @throws {ApiError} 400 for a name, or a validity that would end before it begins.
 */
export function assertIssuable(request: LeafRequest): void {
  validityOf(request)
  alternativeNames(request)
}

/**
 * Issues a certificate.
 *
 * @param key Whose it is; nothing but the public half is looked at.
 * @param extensions Beside those that follow from the request.
 * @returns The chain in PEM, leaf first.
 * @throws {ApiError} 400 for a name no certificate can hold; 409 when what it is to hold makes it
 *   larger than peers read.
 */
export function issueLeaf(
  authority: Authority,
  { publicKey }: { readonly publicKey: KeyObject },
  request: LeafRequest,
  extensions: readonly Der[],
): readonly string[] {
  const der = issueCertificate(
    {
      subject: subjectOf(request),
      issuer: authority.name,
      publicKey,
      ...validityOf(request),
      extensions: [
        keyUsage('digitalSignature'),
        ...usages(request),
        ...alternativeNames(request),
        subjectKeyIdentifier(publicKey),
        ...authorityIdentifier(authority),
        ...extensions,
      ],
    },
    authority.privateKey,
  )
  if (der.length > MAX_CERTIFICATE_BYTES) {
    throw new ApiError(
      409,
      'CERTIFICATE_TOO_LARGE',
      `Cannot issue a certificate of ${der.length} bytes: peers read ${MAX_CERTIFICATE_BYTES}; ` +
        'names, vm_config and runtime events are what grows',
    )
  }
  return [certificatePem(der), ...authority.chain]
}

function subjectOf({ organization, subject }: LeafRequest): DistinguishedName {
  return [
    ...(organization === undefined ? [] : [['O', organization] as const]),
    ...(subject === '' ? [] : [['CN', subject] as const]),
  ]
}

/** From 1975, and for ten years from now, unless asked otherwise; Unix milliseconds. */
function validityOf({ notBefore, notAfter }: LeafRequest) {
  const validFrom = notBefore === undefined ? DEFAULT_NOT_BEFORE : notBefore * 1000
  const validTo = notAfter === undefined ? Date.now() + TEN_YEARS_MS : notAfter * 1000
  if (validFrom < validTo) return { validFrom, validTo }
  throw new ApiError(400, 'CERTIFICATE_VALIDITY', 'not_before must be earlier than not_after')
}

/** RFC 5280 §4.2.1.12. */
function usages({ serverAuth, clientAuth }: LeafRequest): readonly Der[] {
  const purposes = [
    ...(serverAuth ? [oid('1.3.6.1.5.5.7.3.1')] : []),
    ...(clientAuth ? [oid('1.3.6.1.5.5.7.3.2')] : []),
  ]
  return purposes.length === 0 ? [] : [extension('2.5.29.37', false, sequence(...purposes))]
}

/** RFC 5280 §4.2.1.6: critical where nothing else names the subject. */
function alternativeNames(request: LeafRequest): readonly Der[] {
  if (request.altNames.length === 0) return []
  const unnamed = subjectOf(request).length === 0
  return [extension('2.5.29.17', unnamed, sequence(...request.altNames.map(generalName)))]
}

/** `[7]` an address of 4 or 16 bytes, `[2]` a DNS name in ASCII. */
function generalName(name: string): Der {
  const address = addressBytes(name)
  if (address) return implicit(7, address)
  if (name.length > MAX_NAME_LENGTH || !/^[\x21-\x7e]+$/.test(name)) {
    throw new ApiError(
      400,
      'CERTIFICATE_NAME',
      `Cannot put ${JSON.stringify(name.slice(0, 64))} into a certificate: alternative names have ` +
        `1 to ${MAX_NAME_LENGTH} ASCII characters (punycode for other scripts)`,
    )
  }
  return implicit(2, Buffer.from(name, 'latin1'))
}
