import { JsonError, quotedCharacter } from './json-error.ts'
import type { JsonMember, JsonNode, JsonNumber } from './node.ts'
import { readString } from './read-string.ts'

export interface JsonLimits {
  /** Characters of the text; 1 MiB by default. */
  readonly maxLength?: number
  /** Arrays and objects within each other; 100 by default. */
  readonly maxDepth?: number
}

const MAX_LENGTH = 1_048_576
const MAX_DEPTH = 100

/**
 * Reads JSON text (RFC 8259) and keeps what `JSON.parse` loses: how numbers were written, the order
 * of members, those that come twice, and where each value stands.
 *
 * @throws {JsonError} In the words of Go's `encoding/json`; also beyond the limits.
 */
export function readJson(text: string, limits: JsonLimits = {}): JsonNode {
  const { maxLength = MAX_LENGTH } = limits
  if (text.length > maxLength) {
    throw new JsonError(`JSON text has ${text.length} characters, at most ${maxLength} are taken`)
  }
  return new Reader(text, limits.maxDepth ?? MAX_DEPTH).document()
}

const LITERALS = { t: 'true', f: 'false', n: 'null' } as const

class Reader {
  readonly #text: string
  readonly #maxDepth: number
  #at = 0
  #depth = 0

  constructor(text: string, maxDepth: number) {
    this.#text = text
    this.#maxDepth = maxDepth
  }

  document(): JsonNode {
    const value = this.#value()
    this.#space()
    if (this.#at < this.#text.length) throw this.#unexpected('after top-level value')
    return value
  }

  #value(): JsonNode {
    const next = this.#space()
    if (next === '"') return this.#string()
    if (next === '{') return this.#nested(() => this.#object())
    if (next === '[') return this.#nested(() => this.#array())
    if (next === '-' || (next >= '0' && next <= '9')) return this.#number()
    if (next === 't' || next === 'f' || next === 'n') return this.#literal(LITERALS[next])
    throw this.#unexpected('looking for beginning of value')
  }

  #nested(read: () => JsonNode): JsonNode {
    if (++this.#depth > this.#maxDepth) throw new JsonError('exceeded max depth')
    const value = read()
    this.#depth--
    return value
  }

  #object(): JsonNode {
    const start = this.#at++
    const members: JsonMember[] = []
    if (this.#space() === '}') return { kind: 'object', members, start, end: ++this.#at }
    for (;;) {
      if (this.#space() !== '"') {
        throw this.#unexpected('looking for beginning of object key string')
      }
      const { value: name } = this.#string()
      if (this.#space() !== ':') throw this.#unexpected('after object key')
      this.#at++
      members.push({ name, value: this.#value() })
      const next = this.#space()
      if (next !== ',' && next !== '}') throw this.#unexpected('after object key:value pair')
      this.#at++
      if (next === '}') return { kind: 'object', members, start, end: this.#at }
    }
  }

  #array(): JsonNode {
    const start = this.#at++
    const items: JsonNode[] = []
    if (this.#space() === ']') return { kind: 'array', items, start, end: ++this.#at }
    for (;;) {
      items.push(this.#value())
      const next = this.#space()
      if (next !== ',' && next !== ']') throw this.#unexpected('after array element')
      this.#at++
      if (next === ']') return { kind: 'array', items, start, end: this.#at }
    }
  }

  #string() {
    const start = this.#at
    const { value, end } = readString(this.#text, start)
    this.#at = end
    return { kind: 'string', value, start, end } as const
  }

  #number(): JsonNumber {
    const start = this.#at
    if (this.#text[this.#at] === '-') this.#at++
    if (this.#text[this.#at] === '0') this.#at++
    else this.#digits('in numeric literal')
    if (this.#text[this.#at] === '.') {
      this.#at++
      this.#digits('after decimal point in numeric literal')
    }
    if (this.#text[this.#at] === 'e' || this.#text[this.#at] === 'E') {
      const sign = this.#text[++this.#at]
      if (sign === '+' || sign === '-') this.#at++
      this.#digits('in exponent of numeric literal')
    }
    const text = this.#text.slice(start, this.#at)
    return { kind: 'number', text, start, end: this.#at }
  }

  /** At least one. */
  #digits(where: string): void {
    const start = this.#at
    for (;;) {
      const code = this.#text.charCodeAt(this.#at)
      if (!(code >= 0x30 && code <= 0x39)) break
      this.#at++
    }
    if (this.#at === start) throw this.#unexpected(where)
  }

  #literal(word: 'true' | 'false' | 'null'): JsonNode {
    const start = this.#at
    for (const letter of word) {
      if (this.#text[this.#at] !== letter) {
        throw this.#unexpected(`in literal ${word} (expecting '${letter}')`)
      }
      this.#at++
    }
    const end = this.#at
    if (word === 'null') return { kind: 'null', start, end }
    return { kind: 'bool', value: word === 'true', start, end }
  }

  /** Skips white space; what follows it, or ''. */
  #space(): string {
    for (;;) {
      const next = this.#text[this.#at]
      if (next !== ' ' && next !== '\n' && next !== '\t' && next !== '\r') return next ?? ''
      this.#at++
    }
  }

  #unexpected(where: string): JsonError {
    if (this.#at >= this.#text.length) return new JsonError('unexpected end of JSON input')
    return new JsonError(`invalid character ${quotedCharacter(this.#text, this.#at)} ${where}`)
  }
}
