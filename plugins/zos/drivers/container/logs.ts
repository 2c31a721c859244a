import type { Engine } from '../../../../src/engine/engine.ts'
import { MAX_SHOWN_LINES, shownLog } from '../shown-log.ts'

/** As long as a value of an environment may be (`MAX_ARG_STRLEN` in include/uapi/linux/binfmts.h). */
const MAX_LINE_BYTES = 128 * 1024
/** Of all lines. */
const MAX_CHARACTERS = 4 * 1024 * 1024

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
  const tail = Math.min(Math.max(Math.floor(lines), 0), MAX_SHOWN_LINES)
  if (tail === 0) return []
  const found: string[] = []
  let characters = 0
  for await (const { text } of containers.logs(container, {
    tail,
    maxLineBytes: MAX_LINE_BYTES,
    signal,
  })) {
    found.push(text)
    characters += text.length
    while (characters > MAX_CHARACTERS) characters -= found.shift()?.length ?? 0
    // An engine that gives more than was asked for is not read to its end.
    if (found.length >= tail) break
  }
  return shownLog(found, secrets)
}
