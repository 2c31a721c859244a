import { JsonError } from './json-error.ts'
import type { JsonNode } from './node.ts'
import { type JsonLimits, readJson } from './read.ts'

/**
 * What a JSON value is to become, after the rules of Go's `encoding/json` (spec zos §1.2).
 *
 * Like there, a value of the wrong kind is remembered, reading goes on, and what stays wrong first is
 * told at the end; text that cannot be taken (an address, hex) ends it at once.
 */
export interface Form<T> {
  /** Its type in the reference, for messages: `uint32`, `zos.Peer`. */
  readonly goType: string
  /** What it is when nothing is said. */
  readonly zero: T
  /**
   * @param before What the same member had so far: null leaves it, objects are merged into it.
   * @throws {JsonError}
   */
  read(node: JsonNode, state: Decoding, before: T): T
}

/** Where a decoding is, and what was wrong first. */
export interface Decoding {
  readonly source: string
  /** Members from the root to here. */
  readonly path: string[]
  /** Name of the innermost struct; '' outside of any, and for one without a name. */
  struct: string
  mismatch: JsonError | undefined
}

/**
 * Reads a text as a form says.
 *
 * @throws {JsonError} In the words of Go.
 */
export function decodeJson<T>(text: string, form: Form<T>, limits?: JsonLimits): T {
  const state: Decoding = { source: text, path: [], struct: '', mismatch: undefined }
  const value = form.read(readJson(text, limits), state, form.zero)
  if (state.mismatch !== undefined) throw state.mismatch
  return value
}

/**
 * Remembers that a value is not of its type.
 *
 * @param found `string`, `number 256`; by default the kind of the node.
 */
export function mismatch(state: Decoding, goType: string, found: string): void {
  const { struct, path } = state
  const place = path.length === 0 ? 'Go value' : `Go struct field ${struct}.${path.join('.')}`
  state.mismatch ??= new JsonError(
    `json: cannot unmarshal ${found} into ${place} of type ${goType}`,
  )
}
