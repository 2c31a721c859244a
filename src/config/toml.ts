import { parse, TomlError, type TomlPrimitive } from 'smol-toml'

/** A configuration problem with its place in the file. */
export interface ConfigIssue {
  /** Dot path of the key: `plugins.eventlog.max_entries`, `listen.0.address`. */
  readonly path: string
  readonly message: string
  /** The plugin whose table it is, else `cvmd`. */
  readonly owner: string
  /** 1-based; undefined where the value did not come from the file. */
  readonly line?: number
  readonly column?: number
}

/** All that is wrong with a configuration. The process ends with 78 (EX_CONFIG). */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
  readonly code = 'CONFIG_INVALID'
  readonly file: string
  readonly issues: readonly ConfigIssue[]

  constructor(file: string, issues: readonly ConfigIssue[]) {
    super(`Cannot use the configuration:\n${issues.map((i) => formatIssue(file, i)).join('\n')}`)
    this.file = file
    this.issues = issues
  }
}

/** `cvmd.toml:3:1: plugins.eventlog.max_entris: unknown key (eventlog)`. */
export function formatIssue(file: string, issue: ConfigIssue): string {
  const at = issue.line === undefined ? file : `${file}:${issue.line}:${issue.column ?? 1}`
  const key = issue.path === '' ? '' : `${issue.path}: `
  return `${at}: ${key}${issue.message} (${issue.owner})`
}

/** A TOML table as parsed. */
export type TomlTable = { [key: string]: TomlPrimitive }

/**
 * Parses TOML.
 *
 * @throws {ConfigError} With line and column.
 */
export function parseToml(text: string, file: string): TomlTable {
  try {
    return parse(text)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    const message = error.message.split('\n')[0]?.replace('Invalid TOML document: ', '') ?? ''
    throw new ConfigError(file, [
      { path: '', message, owner: 'cvmd', line: error.line, column: error.column },
    ])
  }
}

/**
 * Finds where a key stands. The parser keeps no positions, so the text is scanned again: tables
 * and arrays of tables are counted, the longest part of the path that is written wins.
 */
export function locate(
  text: string,
  path: readonly (string | number)[],
): { line: number; column: number } | undefined {
  const wanted = path.map(String)
  let table: string[] = []
  const counts = new Map<string, number>()
  let best: { line: number; column: number; depth: number } | undefined
  const offer = (found: readonly string[], line: number, column: number) => {
    const depth = found.length
    if (depth === 0 || depth > wanted.length || !found.every((k, i) => k === wanted[i])) return
    if (!best || depth > best.depth) best = { line, column, depth }
  }
  for (const [index, raw] of text.split('\n').entries()) {
    const header = /^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?/.exec(raw)
    if (header) {
      const keys = splitKey(header[2] as string)
      if (header[1] === '[[') {
        const name = keys.join('.')
        const count = counts.get(name) ?? 0
        counts.set(name, count + 1)
        table = [...keys, String(count)]
      } else {
        table = withIndexes(keys, counts)
      }
      offer(table, index + 1, raw.indexOf('[') + 1)
      continue
    }
    const entry =
      /^\s*((?:"[^"]*"|'[^']*'|[A-Za-z0-9_.-]|\s(?=[.\s]*[."'A-Za-z0-9_-]*\s*=))+?)\s*=/.exec(raw)
    if (entry) {
      const column = raw.length - raw.trimStart().length + 1
      offer([...table, ...splitKey(entry[1] as string)], index + 1, column)
    }
  }
  return best && { line: best.line, column: best.column }
}

/** `[listen.tls]` after `[[listen]]` belongs to the latest element. */
function withIndexes(keys: readonly string[], counts: ReadonlyMap<string, number>): string[] {
  const path: string[] = []
  for (let i = 0; i < keys.length; i++) {
    path.push(keys[i] as string)
    const count = counts.get(keys.slice(0, i + 1).join('.'))
    if (count !== undefined && i < keys.length - 1) path.push(String(count - 1))
  }
  return path
}

function splitKey(key: string): string[] {
  const parts = key.match(/"[^"]*"|'[^']*'|[^.\s]+/g) ?? []
  return parts.map((part) => part.replace(/^["']|["']$/g, ''))
}
