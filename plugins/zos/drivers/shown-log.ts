/** Shorter values are too common in other words to be hidden there. */
const MIN_SECRET = 4
/** Looking for more of them would take too long. */
const MAX_SECRETS = 2000

/** Most lines of a log that are shown at once. */
export const MAX_SHOWN_LINES = 1000

const MAX_LINE_CHARACTERS = 4096

/**
 * Lines of a log as people are shown them: short, without secrets, and without what moves the cursor
 * of a terminal.
 *
 * @param lines Whole ones: of a secret that is cut, the rest would be shown.
 * @param secrets Values of an environment; each line of them is hidden.
 */
export function shownLog(lines: readonly string[], secrets: readonly string[]): string[] {
  const hidden = new Set(secrets.flatMap((one) => one.split(/\r?\n/)).filter(isLong))
  if (hidden.size > MAX_SECRETS) return lines.map(() => '[masked]')
  // The longest first, or a secret that contains another would show its rest.
  const sorted = [...hidden].sort((a, b) => b.length - a.length)
  return lines.map((line) => {
    let shown = line
    for (const secret of sorted) shown = shown.replaceAll(secret, '[masked]')
    return printable(shown).slice(0, MAX_LINE_CHARACTERS)
  })
}

function isLong({ length }: string): boolean {
  return length >= MIN_SECRET
}

function printable(line: string): string {
  const begin = String.fromCharCode(27)
  const [first = '', ...parts] = line.split(`${begin}[`)
  const text = [first, ...parts.map((part) => part.replace(/^[0-9;?]*[A-Za-z]/, ''))].join('')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is meant
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, '')
}
