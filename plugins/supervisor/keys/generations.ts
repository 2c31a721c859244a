import * as v from 'valibot'
import { errnoOf, messageOf } from '../../../src/errors.ts'
import { writeFileAtomic } from '../../../src/files/atomic-file.ts'
import { readTextFile } from '../../../src/files/text-file.ts'
import { KeyError } from './key-error.ts'

/** Keys that were ever made anew, in one file. */
const MAX_ENTRIES = 10_000

/** An entry has at most about 350 bytes. */
const MAX_BYTES = 4 * 1024 * 1024

const Count = v.pipe(v.number(), v.safeInteger(), v.minValue(1))

const Entry = v.strictObject({
  app_id: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  service: v.nullable(v.pipe(v.string(), v.nonEmpty(), v.maxLength(255))),
  generation: Count,
})

const Document = v.strictObject({
  version: v.literal(1),
  generations: v.pipe(v.array(Entry), v.maxLength(MAX_ENTRIES)),
})

/** Whose key: a service of an app, or, as app 0 without a service, the whole device. */
export interface KeyOwner {
  readonly appId: number
  readonly service: string | null
}

/**
 * How often each key was made anew, in a JSON file of mode 0600. An entry never goes, even when its
 * app does: else the app's first key would be good again.
 */
export class Generations {
  readonly #path: string
  #entries: ReadonlyMap<string, number> = new Map()
  #last: Promise<unknown> = Promise.resolve()

  constructor(path: string) {
    this.#path = path
  }

  /** @throws {KeyError} When the file is there and cannot be read, or is none of ours. */
  async load(): Promise<void> {
    this.#entries = await read(this.#path)
  }

  /** 0 for a key that was never made anew. */
  of(owner: KeyOwner): number {
    return this.#entries.get(nameOf(owner)) ?? 0
  }

  /**
   * Counts one up. It is on the disk when this resolves; a failure changes nothing.
   *
   * @throws {KeyError} When the file cannot be written, or there are too many keys.
   */
  raise(owner: KeyOwner): Promise<number> {
    const run = this.#last.then(async () => {
      const name = nameOf(owner)
      const generation = this.of(owner) + 1
      const entries = new Map(this.#entries).set(name, generation)
      if (entries.size > MAX_ENTRIES) {
        throw new KeyError(
          'KEY_NOT_POSSIBLE',
          `Cannot make a new API key: ${MAX_ENTRIES} services have had one, ` +
            `remove "${this.#path}" and the master secret to begin anew`,
        )
      }
      await write(this.#path, entries)
      this.#entries = entries
      return generation
    })
    this.#last = run.catch(() => undefined)
    return run
  }
}

/** Unambiguous: an id has digits only, and the name of a service no `|`. */
export function nameOf({ appId, service }: KeyOwner): string {
  return `${appId}|${service ?? ''}`
}

/**
 * The counts in a document.
 *
 * @throws {Error} Naming the first wrong place.
 */
export function parseGenerations(text: string): ReadonlyMap<string, number> {
  const result = v.safeParse(Document, JSON.parse(text), { abortEarly: true })
  if (!result.success) {
    const [issue] = result.issues
    throw new SyntaxError(`${v.getDotPath(issue) ?? 'the document'} is not as it must be`)
  }
  const { generations } = result.output
  const entries = new Map(
    generations.map(({ app_id, service, generation }) => [
      nameOf({ appId: app_id, service }),
      generation,
    ]),
  )
  if (entries.size !== generations.length) throw new SyntaxError('an entry is there twice')
  return entries
}

/** The document for these counts, from {@link nameOf} to count. */
export function renderGenerations(entries: ReadonlyMap<string, number>): string {
  const generations = [...entries].map(([name, generation]) => {
    const bar = name.indexOf('|')
    const service = name.slice(bar + 1)
    return {
      app_id: Number(name.slice(0, bar)),
      service: service === '' ? null : service,
      generation,
    }
  })
  return `${JSON.stringify({ version: 1, generations }, null, 2)}\n`
}

async function read(path: string): Promise<ReadonlyMap<string, number>> {
  try {
    return parseGenerations(await readTextFile(path, MAX_BYTES))
  } catch (cause) {
    if (errnoOf((cause as Error).cause) === 'ENOENT') return new Map()
    throw unusable(path, cause)
  }
}

async function write(path: string, entries: ReadonlyMap<string, number>): Promise<void> {
  try {
    await writeFileAtomic(path, renderGenerations(entries), 0o600)
  } catch (cause) {
    throw unusable(path, cause)
  }
}

function unusable(path: string, cause: unknown): KeyError {
  const message = `Cannot use the generations of API keys in "${path}": ${messageOf(cause)}`
  return new KeyError('KEY_FILE_UNUSABLE', message, { cause })
}
