import { rename } from 'node:fs/promises'
import * as v from 'valibot'
import { errnoOf, messageOf } from '../../../src/errors.ts'
import { writeFileAtomic } from '../../../src/files/atomic-file.ts'
import { readTextFile } from '../../../src/files/text-file.ts'
import { SupervisorError } from '../apply/supervisor-error.ts'

export interface DocumentOptions<Schema extends v.GenericSchema> {
  /** Absolute; its folder is there. */
  readonly path: string
  readonly schema: Schema
  readonly maxBytes: number
  /** Told that the file was unusable and has another name now. */
  readonly onDamaged: (message: string) => void
}

/** One JSON file of mode 0600, replaced as a whole. */
export class Document<Schema extends v.GenericSchema> {
  readonly #options: DocumentOptions<Schema>
  #running: Promise<void> | undefined
  #next: { readonly value: () => v.InferInput<Schema>; readonly done: Promise<void> } | undefined
  #closed = false

  constructor(options: DocumentOptions<Schema>) {
    this.#options = options
  }

  /**
   * What is in the file; undefined when there is none. One that is not as it must be is moved
   * aside, so that it can be looked at, and counts as none.
   *
   * @throws {SupervisorError} `STATE_NOT_STORED` when it can neither be read nor moved.
   */
  async read(): Promise<v.InferOutput<Schema> | undefined> {
    const { path, schema, maxBytes, onDamaged } = this.#options
    try {
      return parseDocument(await readTextFile(path, maxBytes), schema)
    } catch (error) {
      if (errnoOf((error as Error).cause) === 'ENOENT') return undefined
      const aside = `${path}.damaged-${Date.now()}`
      try {
        await rename(path, aside)
      } catch (cause) {
        throw notStored(path, cause)
      }
      onDamaged(`state file "${path}" is unusable, moved to "${aside}": ${messageOf(error)}`)
      return undefined
    }
  }

  /**
   * Writes what `value` gives at the time of writing. Calls during a write share the next one.
   *
   * @throws {SupervisorError} `STATE_NOT_STORED`; the old content stays.
   */
  async write(value: () => v.InferInput<Schema>): Promise<void> {
    if (this.#closed) throw notStored(this.#options.path, new Error('the supervisor has ended'))
    await this.#queue(value)
  }

  /** Resolves when all is written; then somebody else may write the file, and nothing here does. */
  async close(): Promise<void> {
    this.#closed = true
    await (this.#next?.done ?? this.#running)?.catch(() => undefined)
  }

  #queue(value: () => v.InferInput<Schema>): Promise<void> {
    if (this.#next) {
      const { done } = this.#next
      this.#next = { value, done }
      return done
    }
    const before = this.#running ?? Promise.resolve()
    const done: Promise<void> = before.then(async () => {
      const last = this.#next?.value ?? value
      this.#next = undefined
      const run = this.#write(last())
      this.#running = run.catch(() => undefined)
      await run
    })
    this.#next = { value, done }
    return done
  }

  async #write(value: v.InferInput<Schema>): Promise<void> {
    const { path } = this.#options
    try {
      await writeFileAtomic(path, `${JSON.stringify(value)}\n`, 0o600)
    } catch (cause) {
      throw notStored(path, cause)
    }
  }
}

/**
 * Reads a document.
 *
 * @throws {SyntaxError} Naming the first wrong place, and no value.
 */
export function parseDocument<Schema extends v.GenericSchema>(
  text: string,
  schema: Schema,
): v.InferOutput<Schema> {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw new SyntaxError('it is no JSON')
  }
  const result = v.safeParse(schema, json, { abortEarly: true })
  if (result.success) return result.output
  const [issue] = result.issues
  throw new SyntaxError(`${v.getDotPath(issue) ?? 'the document'} is not as it must be`)
}

function notStored(path: string, cause: unknown): SupervisorError {
  const message = `Cannot store state in "${path}": ${messageOf(cause)}`
  return new SupervisorError('STATE_NOT_STORED', message, { cause })
}
