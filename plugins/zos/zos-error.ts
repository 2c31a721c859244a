/** What kind of refusal it is; decides the HTTP status (spec §10.5). */
export type ZosErrorKind =
  /** The payload is not what it must be: 400. */
  | 'decode'
  /** A structure or update rule is broken: 400. */
  | 'invalid'
  /** Who calls is not proven, or a signature is wrong: 401. */
  | 'authentication'
  /** Not theirs: 403. */
  | 'forbidden'
  /** No such command or deployment: 404. */
  | 'not-found'
  /** It exists, or another has its name: 409. */
  | 'conflict'
  /** The registry cannot be asked, or nothing more is taken: 503. */
  | 'unavailable'
  /** The node cannot do it: 500. */
  | 'failed'

/** An error that goes to the caller of a command, on every transport in the same words. */
export class ZosError extends Error {
  override readonly name = 'ZosError'
  readonly kind: ZosErrorKind
  /** Of the bus: 255 unless a better one exists. */
  readonly code: number

  constructor(
    kind: ZosErrorKind,
    message: string,
    options: ErrorOptions & { readonly code?: number } = {},
  ) {
    super(message, options)
    this.kind = kind
    this.code = options.code ?? 255
  }
}
