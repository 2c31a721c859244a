import * as v from 'valibot'
import { messageOf } from '../../../src/errors.ts'
import { Document } from '../store/document.ts'
import { HostError } from './host-error.ts'

const MAX_TAGS = 1000
const MAX_KEY = 255
const MAX_VALUE = 4096

/** All tags at their longest, in JSON escapes. */
const MAX_FILE_BYTES = 32 * 1024 * 1024

const TagsDocument = v.strictObject({
  version: v.literal(1),
  last_id: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  tags: v.pipe(
    v.array(
      v.strictObject({
        id: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
        name: v.pipe(v.string(), v.nonEmpty(), v.maxLength(MAX_KEY)),
        value: v.pipe(v.string(), v.maxLength(MAX_VALUE)),
      }),
    ),
    v.maxLength(MAX_TAGS),
  ),
})

/** One tag as `GET /v2/device/tags` shows it (spec §5.9). */
export interface DeviceTag {
  readonly id: number
  readonly name: string
  readonly value: string
}

/** The tags of the device, kept in a JSON file of mode 0600. */
export class DeviceTags {
  readonly #path: string
  readonly #document: Document<typeof TagsDocument>
  #tags: ReadonlyMap<string, DeviceTag> = new Map()
  #lastId = 0
  #last: Promise<unknown> = Promise.resolve()

  /** @param onDamaged Told that the file was unusable and has another name now. */
  constructor(path: string, onDamaged: (message: string) => void) {
    this.#path = path
    this.#document = new Document({
      path,
      schema: TagsDocument,
      maxBytes: MAX_FILE_BYTES,
      onDamaged,
    })
  }

  /** @throws {HostError} 500 when the file can neither be read nor moved aside. */
  async load(): Promise<void> {
    const stored = await this.#document.read().catch((cause) => {
      throw failed('read', this.#path, cause)
    })
    const { tags = [], last_id = 0 } = stored ?? {}
    this.#tags = new Map(tags.map((tag) => [tag.name, tag]))
    this.#lastId = Math.max(last_id, ...tags.map(({ id }) => id))
  }

  /** All tags, oldest first. */
  list(): readonly DeviceTag[] {
    return [...this.#tags.values()]
  }

  /**
   * Sets tags; others stay. They are on the disk when this resolves.
   *
   * @param body Body of the PATCH.
   * @throws {HostError} 400 for a wrong body, 500 when the file cannot be written.
   */
  async patch(body: unknown): Promise<void> {
    const changes = parseTags(body)
    const run = this.#last.then(() => this.#set(changes))
    this.#last = run.catch(() => undefined)
    await run
  }

  async #set(changes: ReadonlyMap<string, string>): Promise<void> {
    const tags = new Map(this.#tags)
    let lastId = this.#lastId
    let changed = false
    for (const [name, value] of changes) {
      const known = tags.get(name)
      if (known?.value === value) continue
      changed = true
      tags.set(name, { id: known?.id ?? ++lastId, name, value })
    }
    if (!changed) return
    if (tags.size > MAX_TAGS) throw invalid(`Cannot keep more than ${MAX_TAGS} tags`)
    const document = { version: 1 as const, last_id: lastId, tags: [...tags.values()] }
    await this.#document
      .write(() => document)
      .catch((cause) => {
        throw failed('store', this.#path, cause)
      })
    this.#tags = tags
    this.#lastId = lastId
  }
}

/**
 * Reads the body of a PATCH of tags (spec §5.10).
 *
 * @throws {HostError} 400 with the text of balena's supervisor.
 */
export function parseTags(body: unknown): ReadonlyMap<string, string> {
  const entries = typeof body === 'object' && body !== null ? Object.entries(body) : undefined
  if (!entries?.every((entry): entry is [string, string] => typeof entry[1] === 'string')) {
    throw invalid('Invalid tags body, must be an object like `{[tagKey: string]: string}`')
  }
  if (entries.some(([name]) => /\s/.test(name))) throw invalid('Tag keys cannot contain whitespace')
  for (const [name, value] of entries) {
    if (name === '' || name.length > MAX_KEY) {
      throw invalid(`Tag keys must have 1 to ${MAX_KEY} characters`)
    }
    if (value.length > MAX_VALUE) {
      throw invalid(`Tag values must have at most ${MAX_VALUE} characters`)
    }
  }
  return new Map(entries)
}

function invalid(message: string): HostError {
  return new HostError('TAGS_INVALID', 400, message)
}

function failed(what: string, path: string, cause: unknown): HostError {
  const message = `Cannot ${what} the tags in "${path}": ${messageOf(cause)}`
  return new HostError('TAGS_FAILED', 500, message, { cause })
}
