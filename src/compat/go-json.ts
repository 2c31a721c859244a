const ESCAPES = /[<>&\u2028\u2029]/g

/**
 * JSON as Go's `encoding/json` writes it: no spaces, `<`, `>`, `&`, U+2028 and U+2029 escaped,
 * lone surrogates replaced by U+FFFD, one line feed at the end. Key order is the caller's: give
 * structs in field order and maps sorted.
 *
 * Source: Go `encoding/json`, `Encoder.Encode` with HTML escaping on (its default).
 */
export function goJson(value: unknown): string {
  return `${goJsonText(value)}\n`
}

/** {@link goJson} without the line feed, for a part of a larger document. */
export function goJsonText(value: unknown): string {
  const wellFormed = JSON.stringify(value, (_key, item) =>
    typeof item === 'string' ? toWellFormed(item) : item,
  )
  return wellFormed.replace(
    ESCAPES,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

const LONE_SURROGATE = /[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g

function toWellFormed(text: string): string {
  return text.replace(LONE_SURROGATE, '\uFFFD')
}
