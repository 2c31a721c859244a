/** What went wrong with the host. */
export type HostErrorCode =
  | 'HOST_COMMAND_FAILED'
  | 'HOST_CONFIG_INVALID'
  | 'HOST_CONFIG_FAILED'
  | 'HOST_UPDATE_PENDING'
  | 'JOURNAL_BUSY'
  | 'JOURNAL_REQUEST_INVALID'
  | 'JOURNAL_UNAVAILABLE'
  | 'POWER_BUSY'
  | 'TAGS_FAILED'
  | 'TAGS_INVALID'

/** A call about the host that failed; the API puts the message into its own form (spec §3.2). */
export class HostError extends Error {
  override readonly name = 'HostError'
  readonly code: HostErrorCode
  /** The HTTP status the spec gives it. */
  readonly status: 400 | 423 | 429 | 500 | 503

  constructor(
    code: HostErrorCode,
    status: HostError['status'],
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
    this.code = code
    this.status = status
  }
}
