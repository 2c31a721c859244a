import { problemOf, searchPath } from '../../../src/process/host-program.ts'
import { runProcess } from '../../../src/process/run.ts'

const GRACE_MS = 2000
const MAX_OUTPUT_BYTES = 256 * 1024

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
    env: { PATH: searchPath(), LC_ALL: 'C' },
    timeoutMs,
    graceMs: GRACE_MS,
    maxOutputBytes: MAX_OUTPUT_BYTES,
  })
  const abort = () => running.end()
  signal?.addEventListener('abort', abort)
  const result = await running.done
  signal?.removeEventListener('abort', abort)
  if (result.exitCode === 0) return running.stdout.text()
  const problem = problemOf({ program: name, stderr: running.stderr.text(), timeoutMs }, result)
  throw new ToolError(problem ?? '', result.timedOut ? undefined : result.exitCode)
}
