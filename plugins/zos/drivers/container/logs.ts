import type { Engine } from '../../../../src/engine/engine.ts'

/** Of lines that are shown to people. */
const MAX_LINES = 1000
const MAX_LINE_BYTES = 4096
/** Shorter values are too common in other words to be hidden there. */
const MIN_SECRET = 4

/**
 * The last lines a container wrote, oldest first, without the values of its environment.
 *
 * @param secrets Values that are not shown.
 */
export async function lastLines(
  { containers }: Engine,
  container: string,
  lines: number,
  secrets: readonly string[],
  signal?: AbortSignal,
): Promise<string[]> {
  const tail = Math.min(Math.max(Math.floor(lines), 0), MAX_LINES)
  if (tail === 0) return []
  const found: string[] = []
  for await (const line of containers.logs(container, {
    tail,
    maxLineBytes: MAX_LINE_BYTES,
    signal,
  })) {
    found.push(masked(line.text, secrets))
    // An engine that gives more than was asked for is not read to its end.
    if (found.length >= tail) break
  }
  return found
}

function masked(text: string, secrets: readonly string[]): string {
  let shown = text
  // The longest first, or a secret that contains another would show its rest.
  for (const secret of [...secrets].sort((a, b) => b.length - a.length)) {
    if (secret.length >= MIN_SECRET) shown = shown.replaceAll(secret, '[masked]')
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is meant
  return shown.replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, '')
}
