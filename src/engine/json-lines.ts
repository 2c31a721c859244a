import type * as v from 'valibot'
import { parsed } from './client.ts'
import { EngineError } from './error.ts'
import type { Answer } from './exchange.ts'
import { type ByteLine, createLineSplitter } from './lines.ts'

/** Events carry the labels of their object, which a user writes. */
const MAX_LINE_BYTES = 1024 * 1024

/**
 * A stream of JSON values, one a line, each checked.
 *
 * @param idleMs Longest silence; undefined waits as long as it takes.
 * @throws {EngineError} `ENGINE_MALFORMED` for a line over 1 MiB, or not of this shape;
 *   `ENGINE_UNREACHABLE`, `ENGINE_TIMEOUT`.
 */
export async function* readJsonLines<Schema extends v.GenericSchema>(
  answer: Answer,
  schema: Schema,
  action: string,
  idleMs?: number,
): AsyncGenerator<v.InferOutput<Schema>> {
  const splitter = createLineSplitter(MAX_LINE_BYTES)
  const tooLong = () => {
    const reason = `a line has more than ${MAX_LINE_BYTES} bytes`
    return new EngineError('ENGINE_MALFORMED', action, reason)
  }
  const read = function* (lines: readonly ByteLine[]) {
    for (const { bytes, cut } of lines) {
      if (cut) throw tooLong()
      const text = bytes.toString().trim()
      if (text !== '') yield parsed(text, schema, action)
    }
  }
  for await (const chunk of answer.chunks(idleMs)) {
    yield* read(splitter.push(chunk))
    // It may have no end at all.
    if (splitter.pending > MAX_LINE_BYTES) throw tooLong()
  }
  yield* read(splitter.end())
}
