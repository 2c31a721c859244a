import { type DecodeOptions, decodeFirst, Token, Tokenizer, Type } from 'cborg'
import { EvidenceError } from '../evidence-error.ts'

/** Longest CBOR that is read, in bytes: twice the most that a payload of a document may hold. */
export const MAX_CBOR_BYTES = 32 * 1024
const MAX_DEPTH = 16
const MAX_ITEMS = 4096

/** A map as it is read: the keys are integers and texts, each once. */
export type CborMap = ReadonlyMap<unknown, unknown>

/**
 * Reads exactly one CBOR item (RFC 8949) of untrusted bytes. Lengths may be indefinite, as current
 * modules write them; integers and lengths must have their shortest form. Maps become `Map`,
 * integers beyond 2^53 `bigint`. Tags, `undefined` and floating-point numbers are refused.
 *
 * @param what What is being read, for messages.
 * @throws {EvidenceError} `CBOR_TOO_LONG`, `CBOR_TOO_DEEP`, `CBOR_TOO_MANY_ITEMS`, `CBOR_KEY`,
 *   `CBOR_DUPLICATE_KEY`, `CBOR_UTF8`, `CBOR_TRAILING` or, for all else, `CBOR_MALFORMED`.
 */
export function decodeCbor(bytes: Uint8Array, what: string): unknown {
  if (bytes.byteLength > MAX_CBOR_BYTES) {
    const found = `${bytes.byteLength} bytes, at most ${MAX_CBOR_BYTES} are read`
    throw new EvidenceError('CBOR_TOO_LONG', `Cannot read ${what}: ${found}`)
  }
  try {
    const [item, rest] = decodeFirst(bytes, { ...OPTIONS, tokenizer: new StrictTokens(bytes) })
    if (rest.byteLength === 0) return item
    throw new Refusal('CBOR_TRAILING', `${rest.byteLength} bytes stand behind it`)
  } catch (cause) {
    // Whatever else is thrown comes from cborg, whose errors have no type of their own.
    const code = cause instanceof Refusal ? cause.code : 'CBOR_MALFORMED'
    const why = cause instanceof Error ? cause.message : `${cause}`
    throw new EvidenceError(code, `Cannot read ${what}: ${why}`, { cause })
  }
}

const OPTIONS: DecodeOptions = {
  strict: true,
  useMaps: true,
  allowBigInt: true,
  allowUndefined: false,
  // For StrictTokens, which decodes them itself.
  retainStringBytes: true,
}

class Refusal extends Error {
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

/** An array or a map whose items are being read. */
interface Container {
  /** Those of a map so far; undefined for an array. */
  readonly keys: Set<unknown> | undefined
  /** Items in all, keys and values counted each; infinite with indefinite length. */
  readonly items: number
  seen: number
}

/**
 * The tokens of cborg, checked for what it lets pass: depth and number of items, so that its
 * recursion ends; keys; UTF-8, which it repairs; a "break" in place of a map's value, which it
 * takes for one. It also joins strings of indefinite length, which cborg does not read.
 */
class StrictTokens extends Tokenizer {
  readonly #open: Container[] = []
  #items = 0

  constructor(bytes: Uint8Array) {
    // Of a Buffer, slice() would give views instead of copies.
    super(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength), OPTIONS)
  }

  override next(): Token {
    const head = this.data[this.pos()]
    if (head === 0x5f) return this.#place(this.#join(Type.bytes))
    if (head === 0x7f) return this.#place(this.#join(Type.string))
    return this.#place(this.#read())
  }

  /** One token, its text decoded anew. */
  #read(): Token {
    if (this.done()) throw new Refusal('CBOR_MALFORMED', 'it ends in the middle')
    if (++this.#items > MAX_ITEMS) {
      throw new Refusal('CBOR_TOO_MANY_ITEMS', `it has more than ${MAX_ITEMS} items`)
    }
    const token = super.next()
    // Else 1.0 would pass for the integer it becomes.
    if (Type.equals(token.type, Type.float)) throw new Refusal('CBOR_MALFORMED', 'it has a float')
    if (token.byteValue === undefined) return token
    return new Token(Type.string, readText(token.byteValue), token.encodedLength)
  }

  /** The chunks of a string up to its "break" (RFC 8949 §3.2.3). */
  #join(type: Type): Token {
    this._pos++
    const chunks: (string | Uint8Array)[] = []
    for (;;) {
      const chunk = this.#read()
      if (Type.equals(chunk.type, Type.break)) break
      if (!Type.equals(chunk.type, type)) {
        throw new Refusal('CBOR_MALFORMED', `a ${chunk.type.name} stands among chunks`)
      }
      chunks.push(chunk.value)
    }
    const text = Type.equals(type, Type.string)
    const value = text ? chunks.join('') : new Uint8Array(Buffer.concat(chunks as Uint8Array[]))
    return new Token(type, value, 0)
  }

  /** Takes note of where a token stands; refuses it where it may not stand. */
  #place(token: Token): Token {
    const around = this.#open.at(-1)
    if (Type.equals(token.type, Type.break)) {
      const complete = around?.keys === undefined || around.seen % 2 === 0
      if (around?.items !== Number.POSITIVE_INFINITY || !complete) {
        throw new Refusal('CBOR_MALFORMED', 'a "break" stands where an item is due')
      }
      this.#open.pop()
    } else {
      if (around !== undefined) placeIn(around, token)
      if (Type.equals(token.type, Type.array)) this.#enter(token.value, undefined)
      if (Type.equals(token.type, Type.map)) this.#enter(2 * token.value, new Set())
    }
    while (this.#open.length > 0 && isComplete(this.#open.at(-1))) this.#open.pop()
    return token
  }

  #enter(items: number, keys: Set<unknown> | undefined): void {
    if (this.#open.length === MAX_DEPTH) {
      throw new Refusal('CBOR_TOO_DEEP', `it is nested more than ${MAX_DEPTH} deep`)
    }
    this.#open.push({ keys, items, seen: 0 })
  }
}

const isComplete = (container: Container | undefined) => container?.seen === container?.items

function placeIn(container: Container, { type, value }: Token): void {
  if (container.keys !== undefined && container.seen % 2 === 0) {
    // Other keys could be equal without looking so.
    if (!['uint', 'negint', 'string'].includes(type.name)) {
      throw new Refusal('CBOR_KEY', `a map has a key of type ${type.name}`)
    }
    if (container.keys.has(value)) {
      const key = JSON.stringify(`${value}`.slice(0, 40))
      throw new Refusal('CBOR_DUPLICATE_KEY', `a map has key ${key} twice`)
    }
    container.keys.add(value)
  }
  container.seen++
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function readText(bytes: Uint8Array): string {
  try {
    return UTF8.decode(bytes)
  } catch {
    throw new Refusal('CBOR_UTF8', 'a text is not UTF-8')
  }
}
