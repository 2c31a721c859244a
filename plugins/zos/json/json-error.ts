/** Why a text is not the JSON that was asked for, in the words of Go's `encoding/json`. */
export class JsonError extends SyntaxError {
  override readonly name = 'JsonError'
}

/** Longest part of an input that is quoted in a message. */
const MAX_QUOTED = 100

/** A part of an input as a message shows it. */
export function clipped(text: string): string {
  return text.length <= MAX_QUOTED ? text : `${text.slice(0, MAX_QUOTED)}…`
}

/** One character between quotes as Go prints it: the first byte of its UTF-8, taken for Latin-1. */
export function quotedCharacter(text: string, at: number): string {
  const character = String.fromCodePoint(text.codePointAt(at) ?? 0)
  if (character === "'") return "'\\''"
  const [byte = 0] = new TextEncoder().encode(character)
  if (byte >= 0xa0 || byte === 0x22) return `'${String.fromCharCode(byte)}'`
  if (byte >= 0x7f) return `'\\u00${byte.toString(16)}'`
  return `'${JSON.stringify(character).slice(1, -1)}'`
}
