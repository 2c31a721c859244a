import { runProcess } from '../../../../src/process/run.ts'

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const GRACE_MS = 2000
const MAX_OUTPUT_BYTES = 256 * 1024
const MAX_REASON = 200

/** A program of the host did not do its work; the message says which and what it wrote. */
export class ToolError extends Error {
  override readonly name = 'ToolError'
  /** Undefined when it did not run to its end. */
  readonly exitCode: number | undefined

  constructor(message: string, exitCode: number | undefined) {
    super(message)
    this.exitCode = exitCode
  }
}

/** Runs a program of the host, without a shell, and gives what it wrote to stdout. */
export type RunTool = (argv: readonly string[], options?: ToolOptions) => Promise<string>

export interface ToolOptions {
  /** Default 30 s. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal | undefined
}

/**
 * The {@link RunTool} of this machine.
 *
 * @throws {ToolError} Unless the program ended with exit status 0; also for an aborted signal.
 */
export const runTool: RunTool = async (argv, { timeoutMs = 30_000, signal } = {}) => {
  const name = argv[0] ?? ''
  if (signal?.aborted)
    throw new ToolError(`"${name}" was not started: it was called off`, undefined)
  const running = runProcess({
    argv,
    env: { PATH: process.env.PATH || DEFAULT_PATH, LC_ALL: 'C' },
    timeoutMs,
    graceMs: GRACE_MS,
    maxOutputBytes: MAX_OUTPUT_BYTES,
  })
  const abort = () => running.end()
  signal?.addEventListener('abort', abort)
  const { errno, exitCode, signal: killedBy, timedOut } = await running.done
  signal?.removeEventListener('abort', abort)
  if (exitCode === 0) return running.stdout.text()
  if (errno === 'ENOENT') throw new ToolError(`"${name}" is not installed`, undefined)
  if (errno !== undefined) throw new ToolError(`"${name}" cannot be started (${errno})`, undefined)
  if (timedOut) throw new ToolError(`"${name}" took longer than ${timeoutMs / 1000} s`, undefined)
  const end = killedBy === undefined ? `exit status ${exitCode}` : `signal ${killedBy}`
  const said = running.stderr.text().replace(/\s+/g, ' ').trim().slice(0, MAX_REASON)
  throw new ToolError(`"${name}" ended with ${end}${said === '' ? '' : `: ${said}`}`, exitCode)
}
