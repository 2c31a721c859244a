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
import type { KmsSigner } from './kms-signer.ts'

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
   * @throws {ApiError} 400 for what no certificate can hold; as the device says where there is to be
   *   evidence; as `kmsProblem` where a KMS signs.
   */
  async issue(
    scalar: Uint8Array | undefined,
    request: CertificateRequest,
    options: CallOptions,
  ): Promise<IssuedKey> {
    assertIssuable(request)
    const key = keyOf(scalar ?? randomP256Scalar())
    const source = this.#source
    if (source.kind === 'kms') return this.#signedBy(source.signer, key, request, options)
    const authority = await this.#authority(source)
    const identity = this.#identity.current()
    const evidence =
      request.withEvidence || request.withAppInfo
        ? await evidenceAbout(this.#attester, key.spki, identity.vmConfig, options)
        : undefined
    const extensions = await usable(() => {
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

  /** By whoever has the authority's key, who is shown the evidence in any case. */
  async #signedBy(
    signer: KmsSigner,
    key: P256Key,
    { withEvidence, withAppInfo, ...leaf }: CertificateRequest,
    options: CallOptions,
  ): Promise<IssuedKey> {
    const { vmConfig } = this.#identity.current()
    const attestation = await evidenceAbout(this.#attester, key.spki, vmConfig, options)
    const fields = { leaf, withEvidence, withAppInfo, attestation }
    const { signal } = options
    const chain = await usable(() => signer.sign(key, fields, vmConfig, signal))
    return { key: key.pem, chain }
  }

  async #authority(source: Exclude<AuthoritySource, { kind: 'kms' }>): Promise<Authority> {
    if (source.kind === 'given') return source.authority
    this.#own ??= this.#root(source.key).catch((error) => {
      this.#own = undefined
      throw error
    })
    return this.#own
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
async function usable<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work()
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
