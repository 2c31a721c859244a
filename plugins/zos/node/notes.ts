/** Where degraded answers are explained; consola fits. */
export interface NodeLog {
  warn(message: string): void
}

const MAX_NOTES = 256

/** Says each reason once, so that a question asked every second does not fill the log. */
export class Notes {
  readonly #log: NodeLog
  readonly #said = new Set<string>()

  constructor(log: NodeLog) {
    this.#log = log
  }

  /** @param key What is missing; its reason may read differently the next time. */
  once(key: string, message: string): void {
    if (this.#said.has(key) || this.#said.size >= MAX_NOTES) return
    this.#said.add(key)
    this.#log.warn(message)
  }
}
