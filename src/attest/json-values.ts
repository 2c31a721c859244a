/**
 * Whether JSON of strangers has more values than expected, as many as there are commas and opening
 * brackets outside of strings. To parse it takes time for each of them, and a short text can hold
 * millions; to count them takes little.
 */
export function hasMoreValues(json: string, most: number): boolean {
  let values = 0
  for (let at = 0; at < json.length; at++) {
    const code = json.charCodeAt(at)
    if (code === QUOTE) at = endOfString(json, at)
    else if (code === COMMA || code === BRACKET || code === BRACE) values++
    if (values > most) return true
  }
  return false
}

/** Where the string that begins here ends; the end of the text if it does not. */
function endOfString(json: string, start: number): number {
  for (let end = json.indexOf('"', start + 1); end >= 0; end = json.indexOf('"', end + 1)) {
    let escapes = end
    while (json.charCodeAt(escapes - 1) === BACKSLASH) escapes--
    if ((end - escapes) % 2 === 0) return end
  }
  return json.length
}

const [QUOTE, COMMA, BRACKET, BRACE, BACKSLASH] = [0x22, 0x2c, 0x5b, 0x7b, 0x5c]
