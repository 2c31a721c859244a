/**
 * Evidence that cannot be read: too short, too long, of an unknown version, or not what it claims
 * to be. Every parser in `src/attest/` throws this and nothing else, so that whoever judges
 * evidence can tell "unreadable" from a fault of our own.
 */
export class EvidenceError extends Error {
  override readonly name = 'EvidenceError'
  /** Stable, in capitals: `QUOTE_TRUNCATED`, `CBOR_DUPLICATE_KEY`, … */
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
