import { EvidenceError } from '../../../src/attest/evidence-error.ts'
import { fromHex } from '../../../src/attest/hex.ts'
import { type RaTlsFields, raTlsExtensions } from '../../../src/attest/ra-tls.ts'
import type { AppIdentitySource } from '../../../src/attester/app-identity.ts'
import type { Attester } from '../../../src/attester/attester.ts'
import type { CallOptions } from '../../../src/device/devices.ts'
import { ApiError } from '../../../src/errors.ts'
import { markedSubject } from '../../../src/simulate/marks.ts'
import type { DistinguishedName } from '../../../src/x509/issue.ts'
import { type Authority, selfSigned } from '../certificates/authority.ts'
import { certifiedApp } from '../certificates/certified-app.ts'
import { evidenceAbout } from '../certificates/evidence.ts'
import { assertIssuable, issueLeaf, type LeafRequest } from '../certificates/leaf.ts'
import { type P256Key, p256Key } from '../certificates/p256-key.ts'
import type { Config } from '../config.ts'
import { randomP256Scalar } from '../derivation/curves.ts'
import type { AuthoritySource } from './key-source.ts'

/** What is asked for beside what TLS needs. */
export interface CertificateRequest extends LeafRequest {
  /** Put evidence about the key into the certificate. */
  readonly withEvidence: boolean
  readonly withAppInfo: boolean
}

/** A key in PEM with the certificates that name it, PEM, leaf first. */
export interface IssuedKey {
  readonly key: string
  readonly chain: readonly string[]
}

const AUTHORITY_NAME = 'App Root Cert'

/** Issues certificates for the application's keys. */
export class Issuer {
  readonly #attester: Attester
  readonly #identity: AppIdentitySource
  readonly #form: Config['evidence_form']
  readonly #source: AuthoritySource
  /** The application's own root certificate, shared by all who wait for it. */
  #own: Promise<Authority> | undefined

  constructor(
    attester: Attester,
    identity: AppIdentitySource,
    form: Config['evidence_form'],
    source: AuthoritySource,
  ) {
    this.#attester = attester
    this.#identity = identity
    this.#form = form
    this.#source = source
  }

  /**
   * Issues a certificate for a key.
   *
   * @param scalar P-256, 32 bytes, zeroed here; undefined for a fresh one.
   * @throws {ApiError} 400 for what no certificate can hold; 501 where a KMS would have to sign; as
   *   the device says where there is to be evidence.
   */
  async issue(
    scalar: Uint8Array | undefined,
    request: CertificateRequest,
    options: CallOptions,
  ): Promise<IssuedKey> {
    assertIssuable(request)
    const key = keyOf(scalar ?? randomP256Scalar())
    const authority = await this.#authority()
    const identity = this.#identity.current()
    const evidence =
      request.withEvidence || request.withAppInfo
        ? await evidenceAbout(this.#attester, key.spki, identity.vmConfig, options)
        : undefined
    const extensions = usable(() => {
      const fields: RaTlsFields = {
        appId: fromHex(identity.appId, 'app id'),
        usage: 'app:custom',
        attestation: request.withEvidence ? evidence : undefined,
        appInfo: request.withAppInfo && evidence ? certifiedApp(evidence, identity) : undefined,
      }
      return raTlsExtensions(fields, this.#form)
    })
    return { key: key.pem, chain: issueLeaf(authority, key, request, extensions) }
  }

  async #authority(): Promise<Authority> {
    const source = this.#source
    switch (source.kind) {
      case 'given':
        return source.authority
      case 'kms':
        throw new ApiError(
          501,
          'CERTIFICATES_UNSUPPORTED',
          `Cannot issue a certificate: by the key file the KMS at "${source.url}" signs them, ` +
            'which this version does not ask',
        )
      case 'own':
        this.#own ??= this.#root(source.key).catch((error) => {
          this.#own = undefined
          throw error
        })
        return this.#own
    }
  }

  async #root(key: P256Key): Promise<Authority> {
    const { vmConfig } = this.#identity.current()
    // Made for all, so that none of those who wait may take it away with his request.
    const attestation = await evidenceAbout(this.#attester, key.spki, vmConfig, {})
    const subject: DistinguishedName = this.#attester.simulated
      ? markedSubject(AUTHORITY_NAME)
      : [
          ['O', 'Dstack'],
          ['CN', AUTHORITY_NAME],
        ]
    return usable(() => {
      const extensions = raTlsExtensions({ usage: 'app:ca', attestation }, this.#form)
      return selfSigned(key, subject, extensions)
    })
  }
}

/** @throws {ApiError} 502 for evidence that cannot be read, or that a certificate cannot hold. */
function usable<T>(work: () => T): T {
  try {
    return work()
  } catch (cause) {
    if (!(cause instanceof EvidenceError)) throw cause
    throw new ApiError(502, 'EVIDENCE_UNUSABLE', cause.message, { cause })
  }
}

/** @throws {ApiError} 400 for the one in 2^32 names whose bytes are no key of P-256. */
function keyOf(scalar: Uint8Array): P256Key {
  try {
    return p256Key(scalar)
  } catch (cause) {
    const why = 'Cannot derive a P-256 key: take another path, for this one there is none'
    throw new ApiError(400, 'KEY_UNUSABLE', why, { cause })
  } finally {
    scalar.fill(0)
  }
}
