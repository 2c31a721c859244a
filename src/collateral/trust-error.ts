/**
 * Why there is nothing to judge quotes with.
 *
 * `TRUST_SETUP`: a file that the configuration names cannot be used. `PCCS_UNREACHABLE`,
 * `PCCS_TIMEOUT`, `PCCS_ABORTED`: the service gave no answer. `PCCS_REFUSED`: another status than
 * 200. `PCCS_TOO_LARGE`, `PCCS_MALFORMED`: its answer is none of Intel's. `PCCS_UNVERIFIED`: it is
 * not signed by whom we trust, out of date, or older than what was there before. `PCCS_BUSY`: too
 * many platforms are being asked about.
 */
export type TrustErrorCode =
  | 'TRUST_SETUP'
  | 'PCCS_UNREACHABLE'
  | 'PCCS_TIMEOUT'
  | 'PCCS_ABORTED'
  | 'PCCS_REFUSED'
  | 'PCCS_TOO_LARGE'
  | 'PCCS_MALFORMED'
  | 'PCCS_UNVERIFIED'
  | 'PCCS_BUSY'

/** What an operator reads when evidence cannot be judged; names the file or the URL. */
export class TrustError extends Error {
  override readonly name = 'TrustError'
  readonly code: TrustErrorCode

  constructor(code: TrustErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
