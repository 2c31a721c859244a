/** A fenced block of a Markdown file. */
export interface Block {
  /** What follows the opening fence: `sh`, `toml`, or nothing. */
  readonly info: string
  readonly text: string
  /** Line of the opening fence, from 1. */
  readonly line: number
}

/** A command of a shell block and the answer shown under it. */
export interface Shown {
  readonly command: string
  /** Undefined where none is shown. */
  readonly answer: string | undefined
  readonly line: number
}

/** The fenced blocks, in order. */
export function fencedBlocks(markdown: string): Block[] {
  const blocks: Block[] = []
  let open: { info: string; lines: string[]; line: number } | undefined
  for (const [index, line] of markdown.split('\n').entries()) {
    const fence = /^```(.*)$/.exec(line)
    if (!fence) open?.lines.push(line)
    else if (open) {
      blocks.push({ info: open.info, text: `${open.lines.join('\n')}\n`, line: open.line })
      open = undefined
    } else open = { info: (fence[1] as string).trim(), lines: [], line: index + 1 }
  }
  return blocks
}

/**
 * The commands of a shell block. A line that ends in a backslash goes on in the next one. An answer
 * stands directly under its command, each line after `# → `; or, as JSON, after `# `, going on
 * after `#  `. Every other comment is for the reader.
 */
export function shownCommands(block: Block): Shown[] {
  const shown: { command: string; answer: string | undefined; line: number }[] = []
  let answering = false
  for (const [index, line] of block.text.split('\n').entries()) {
    const last = shown.at(-1)
    if (last?.command.endsWith('\\')) last.command += `\n${line}`
    else if (line.startsWith('#')) {
      const text = /^# → ?(.*)$/.exec(line) ?? /^# ([{[].*)$/.exec(line)
      const more = /^# {2,}(.*)$/.exec(line)
      if (last && answering && text) {
        last.answer = last.answer === undefined ? text[1] : `${last.answer}\n${text[1]}`
      } else if (last?.answer !== undefined && answering && more) last.answer += more[1]
      else answering = false
    } else if (line.trim() !== '') {
      shown.push({ command: line, answer: undefined, line: block.line + 1 + index })
      answering = true
    }
  }
  return shown
}

/** How often curl is called in a text. */
export function countCurls(text: string): number {
  return text.match(/(?<![\w./-])curl\s+(?=\S)/g)?.length ?? 0
}

/**
 * Whether an output is what was shown. Times may differ, and `…` stands for any text.
 */
export function matchesShown(output: string, answer: string): boolean {
  const end = answer.endsWith('…') ? '' : '\n'
  const parts = withoutTimes(answer + end).split('…')
  const pattern = parts.map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
  const exact = new RegExp(`^${pattern.join('[\\s\\S]*')}$`)
  return exact.test(withoutTimes(`${output.trimEnd()}\n`))
}

function withoutTimes(text: string): string {
  return text.replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, 'TIME')
}
