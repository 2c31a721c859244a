/**
 * Splits a command line into words as a POSIX shell quotes them: single quotes, double quotes,
 * backslashes. Nothing is expanded: `$`, `*`, `;` and `|` are characters like others.
 *
 * @returns The words; undefined when a quote is not closed or the last character is a backslash.
 */
export function shellWords(text: string): string[] | undefined {
  const words: string[] = []
  let word: string | undefined
  let quote = ''
  for (let at = 0; at < text.length; at++) {
    const character = text[at] as string
    if (quote === "'") {
      if (character === quote) quote = ''
      else word += character
    } else if (character === '\\') {
      const next = text[++at]
      if (next === undefined) return undefined
      word ??= ''
      // A line that goes on; and in double quotes only these lose their backslash.
      if (next === '\n') continue
      word += quote === '"' && !'$`"\\'.includes(next) ? `\\${next}` : next
    } else if (character === quote) {
      quote = ''
    } else if (quote === '' && (character === '"' || character === "'")) {
      quote = character
      word ??= ''
    } else if (quote === '' && /\s/.test(character)) {
      if (word !== undefined) words.push(word)
      word = undefined
    } else {
      word = (word ?? '') + character
    }
  }
  if (quote !== '') return undefined
  if (word !== undefined) words.push(word)
  return words
}
