import type { ProcessResult } from './run.ts'

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Where programs of the host are looked for: the daemon's own `PATH`, or the usual one. */
export function searchPath(): string {
  try {
    return process.env.PATH || DEFAULT_PATH
  } catch {
    // Deno refuses variables one by one.
    return DEFAULT_PATH
  }
}

export interface ProgramRun {
  /** The program that is meant. */
  readonly program: string
  /** The one that is started, which may be in front of it: `sudo`. Default: the same. */
  readonly started?: string
  /** What it wrote to standard error. */
  readonly stderr: string
  readonly timeoutMs: number
  /** Characters of standard error that are told. Default: 200. */
  readonly maxReason?: number
}

/** What went wrong with a program, for messages; undefined after exit status 0. */
export function problemOf(run: ProgramRun, result: ProcessResult): string | undefined {
  const { program, started = program, stderr, timeoutMs, maxReason = 200 } = run
  const { errno, exitCode, signal, timedOut } = result
  if (errno === 'ENOENT') return `"${started}" is not installed`
  if (errno !== undefined) return `"${started}" cannot be started (${errno})`
  if (timedOut) return `"${program}" took longer than ${timeoutMs / 1000} s`
  if (exitCode === 0) return undefined
  const end = signal === undefined ? `exit status ${exitCode}` : `signal ${signal}`
  const said = stderr.replace(/\s+/g, ' ').trim().slice(0, maxReason)
  return `"${program}" ended with ${end}${said === '' ? '' : `: ${said}`}`
}
