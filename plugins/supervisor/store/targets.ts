import { join } from 'node:path'
import * as v from 'valibot'
import { Document } from './document.ts'

/** A target is at most 10 MB as it comes (spec §1), and somewhat more here. */
const MAX_BYTES = 16 * 1024 * 1024

const StoredTarget = v.strictObject({
  version: v.literal(1),
  /** As it came: it is checked again when it is read, by the rules of then. */
  body: v.unknown(),
  measured: v.optional(
    v.strictObject({
      /** SHA-256 of the target in its one form, 64 hex digits. */
      digest: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
      boot_id: v.pipe(v.string(), v.maxLength(64)),
    }),
  ),
})

/** What was taken last from one source. */
export interface KeptTarget {
  readonly body: unknown
  /** That it was measured, and in which boot. */
  readonly measured?: { readonly digest: string; readonly bootId: string } | undefined
}

/** The last good target of each source, each in a file of its own. */
export class TargetStore<Source extends string> {
  readonly #documents: ReadonlyMap<Source, Document<typeof StoredTarget>>

  constructor(folder: string, sources: readonly Source[], onDamaged: (message: string) => void) {
    this.#documents = new Map(
      sources.map((source) => {
        const path = join(folder, `target-${source}.json`)
        return [
          source,
          new Document({ path, schema: StoredTarget, maxBytes: MAX_BYTES, onDamaged }),
        ] as const
      }),
    )
  }

  /** @throws {SupervisorError} `STATE_NOT_STORED`. */
  async read(source: Source): Promise<KeptTarget | undefined> {
    const stored = await this.#documents.get(source)?.read()
    if (stored === undefined) return undefined
    const { body, measured } = stored
    return {
      body,
      ...(measured ? { measured: { digest: measured.digest, bootId: measured.boot_id } } : {}),
    }
  }

  /** @throws {SupervisorError} `STATE_NOT_STORED`; the old one stays. */
  async write(source: Source, { body, measured }: KeptTarget): Promise<void> {
    await this.#documents.get(source)?.write(() => ({
      version: 1 as const,
      body,
      ...(measured ? { measured: { digest: measured.digest, boot_id: measured.bootId } } : {}),
    }))
  }

  /** Afterwards nothing is written. */
  async close(): Promise<void> {
    await Promise.all([...this.#documents.values()].map((document) => document.close()))
  }
}
