import type { Attester } from '../../../src/attester/attester.ts'
import type { Certificate } from '../../../src/x509/certificate.ts'
import type { EvidenceTrust, VerifiedEvidence } from '../trust/verified-evidence.ts'

/** How a KMS is reached, and what it has to be. */
export interface KmsConnectionOptions {
  /** `https://HOST:PORT`, with or without the `/prpc` of dstack. */
  readonly url: string
  /** One of which its chain has to end in; undefined where `accept` alone decides. */
  readonly roots: readonly Certificate[] | undefined
  /** Whose evidence is believed. */
  readonly trust: EvidenceTrust
  /** Of this machine, which shows evidence of its own. */
  readonly attester: Attester
  /** This machine's `vm_config`, which goes along with its evidence. */
  readonly vmConfig: string
  /**
   * Asked about the KMS once its evidence is verified, before it learns anything of this machine.
   * Throws to refuse it.
   */
  readonly accept?: (peer: VerifiedEvidence) => Promise<void>
  /** For each connection and each answer, in milliseconds. */
  readonly deadlineMs: number
  readonly signal?: AbortSignal | undefined
  /** Unix time in milliseconds. */
  readonly now?: () => number
}

/** A verified KMS that has verified this machine's certificate, or will when a method asks. */
export interface KmsConnection {
  readonly url: string
  /** What the KMS measured. */
  readonly peer: VerifiedEvidence
  /** Its root certificate, in which the chain that it showed ends. */
  readonly root: Certificate
  /**
   * Calls a method and gives its answer, whose members the caller has to check.
   *
   * @param method `GetAppKey`, without the service's name.
   * @throws {KmsError}
   * @throws {ApiError} When this machine cannot prove itself on another connection; as
   *   `evidenceAbout`.
   */
  call(
    method: string,
    args: Readonly<Record<string, unknown>>,
    signal?: AbortSignal,
  ): Promise<Readonly<Record<string, unknown>>>
  close(): void
}

/**
 * Why a KMS gave nothing.
 *
 * `KMS_UNREACHABLE`, `KMS_TIMEOUT`, `KMS_ABORTED`: no answer. `KMS_NOT_VERIFIED`: its certificate is
 * not that of a KMS which may be believed; the cause says more. `KMS_CHANGED`: the second connection
 * ended at another key than the first, so somebody is in between. `KMS_REFUSED`: it answered with an
 * error. `KMS_MALFORMED`: its answer is none of dstack's.
 */
export type KmsErrorCode =
  | 'KMS_UNREACHABLE'
  | 'KMS_TIMEOUT'
  | 'KMS_ABORTED'
  | 'KMS_NOT_VERIFIED'
  | 'KMS_CHANGED'
  | 'KMS_REFUSED'
  | 'KMS_MALFORMED'

/** No answer of a KMS to go by; the message names its URL and holds no secret. */
export class KmsError extends Error {
  override readonly name = 'KmsError'
  readonly code: KmsErrorCode
  /** The KMS's own code where it refused: `UNAUTHORIZED`, `MEASUREMENT_NOT_FOUND`, … */
  readonly refusal: string | undefined

  constructor(
    code: KmsErrorCode,
    message: string,
    options?: ErrorOptions & { readonly refusal?: string | undefined },
  ) {
    super(message, options)
    this.code = code
    this.refusal = options?.refusal
  }
}
