import { JsonError, quotedCharacter } from './json-error.ts'

/** All but quotes, backslashes and what stands before the space. */
const PLAIN = /[ !#-[\]-\uffff]*/y
const HEX = /^[0-9a-fA-F]$/
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
}

/**
 * Reads a JSON string. Half a surrogate pair becomes U+FFFD, as in Go; that counts for the hash.
 *
 * @param start Of its opening quote.
 * @returns `end` is behind the closing quote.
 * @throws {JsonError}
 */
export function readString(text: string, start: number): { value: string; end: number } {
  let value = ''
  let at = start + 1
  for (;;) {
    const plain = plainAt(text, at)
    value += plain
    at += plain.length
    const next = text[at]
    if (next === '"') return { value, end: at + 1 }
    if (next !== '\\') throw unexpected(text, at, 'in string literal')
    const letter = text[at + 1] ?? ''
    if (letter === 'u') {
      const escaped = readUnicode(text, at)
      value += escaped.value
      at = escaped.end
    } else {
      const meant = ESCAPES[letter]
      if (meant === undefined) throw unexpected(text, at + 1, 'in string escape code')
      value += meant
      at += 2
    }
  }
}

function plainAt(text: string, at: number): string {
  PLAIN.lastIndex = at
  return PLAIN.exec(text)?.[0] ?? ''
}

/** One `\uXXXX`, or two that are a pair. */
function readUnicode(text: string, at: number): { value: string; end: number } {
  const first = readHex(text, at + 2)
  const end = at + 6
  if (first < 0xd800 || first > 0xdfff) return { value: String.fromCharCode(first), end }
  if (first < 0xdc00 && text.startsWith('\\u', end)) {
    const second = readHex(text, end + 2)
    if (second >= 0xdc00 && second <= 0xdfff) {
      return { value: String.fromCharCode(first, second), end: end + 6 }
    }
  }
  return { value: '\ufffd', end }
}

function readHex(text: string, at: number): number {
  for (let i = at; i < at + 4; i++) {
    if (!HEX.test(text[i] ?? '')) throw unexpected(text, i, 'in \\u hexadecimal character escape')
  }
  return Number.parseInt(text.slice(at, at + 4), 16)
}

function unexpected(text: string, at: number, where: string): JsonError {
  if (at >= text.length) return new JsonError('unexpected end of JSON input')
  return new JsonError(`invalid character ${quotedCharacter(text, at)} ${where}`)
}
