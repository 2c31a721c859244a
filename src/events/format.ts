import type { WireEvent } from './wire.ts'

// Control characters, line separators and marks that turn the direction of text.
const UNSAFE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not get through
  /[\u0000-\u001F\u007F-\u009F\u061C\u200E\u200F\u2028-\u202E\u2066-\u2069\uFEFF]|\p{Cs}/gu

const NAMED: Readonly<Record<string, string>> = { '\t': '\\t', '\n': '\\n', '\r': '\\r' }

/**
 * One event as one line of text without a line feed: time, level, source, message. Whatever the
 * message contains, it stays one line and cannot act on a terminal: control characters are shown
 * as `\n`, `\x1b` or `\u202e`.
 */
export function formatEvent(event: WireEvent): string {
  const { time, level, source, message } = event
  return `${escapeText(time)} ${level.padEnd(5)} ${escapeText(source)}: ${escapeText(message)}`
}

/** Shows what would not print as itself by an escape. */
export function escapeText(text: string): string {
  return text.replace(UNSAFE, (char) => {
    const code = char.charCodeAt(0)
    const hex = code.toString(16)
    return (
      NAMED[char] ?? (code < 0x100 ? `\\x${hex.padStart(2, '0')}` : `\\u${hex.padStart(4, '0')}`)
    )
  })
}
