/** Keys cannot be made, kept or read. Says where and what to do, never a key. */
export class KeyError extends Error {
  override readonly name = 'KeyError'
  readonly status = 503
  readonly code: 'KEY_FILE_UNUSABLE' | 'KEY_NOT_POSSIBLE'

  constructor(code: KeyError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
