import { problemOf, searchPath } from '../../../src/process/host-program.ts'
import { runProcess } from '../../../src/process/run.ts'
import { DriverError } from './driver.ts'

const TIMEOUT_MS = 20_000
const GRACE_MS = 1000
const MAX_OUTPUT_BYTES = 1024 * 1024
const MAX_REASON = 300

/** How a host command ended. */
export interface CommandEnd {
  readonly ok: boolean
  readonly stdout: string
  /** What went wrong, for people; '' when it went well. */
  readonly problem: string
  /** Errno name when it could not be started: `ENOENT`. */
  readonly errno: string | undefined
}

/** Runs programs of the host such as `ip`, without a shell and without input. */
export interface HostCommands {
  /** Never rejects but with the reason of the signal. At most 20 s. */
  run(...argv: string[]): Promise<CommandEnd>
  /**
   * @param action For the message: `make bridge "b-x"`.
   * @returns What it wrote.
   * @throws {DriverError} `failed` unless it ended with exit status 0.
   */
  must(action: string, ...argv: string[]): Promise<string>
  /** The same, ended by this signal too. */
  until(signal: AbortSignal): HostCommands
}

/**
 * @param prefix Program and arguments in front of every command: `sudo -n`, or what enters a network
 * namespace.
 */
export function hostCommands(prefix: readonly string[] = [], signal?: AbortSignal): HostCommands {
  const run = async (...argv: string[]): Promise<CommandEnd> => {
    signal?.throwIfAborted()
    const running = runProcess({
      argv: [...prefix, ...argv],
      env: environment(),
      timeoutMs: TIMEOUT_MS,
      graceMs: GRACE_MS,
      maxOutputBytes: MAX_OUTPUT_BYTES,
    })
    const end = () => running.end()
    signal?.addEventListener('abort', end)
    const result = await running.done
    signal?.removeEventListener('abort', end)
    signal?.throwIfAborted()
    const [program = ''] = argv
    const run = {
      program,
      started: prefix[0] ?? program,
      stderr: running.stderr.text(),
      timeoutMs: TIMEOUT_MS,
      maxReason: MAX_REASON,
    }
    const problem = problemOf(run, result) ?? ''
    const stdout = running.stdout.text()
    return { ok: problem === '', stdout, problem, errno: result.errno }
  }
  return {
    run,
    async must(action, ...argv) {
      const end = await run(...argv)
      if (end.ok) return end.stdout
      throw new DriverError('failed', `Cannot ${action}: ${end.problem}`)
    },
    until: (other) =>
      hostCommands(prefix, signal === undefined ? other : AbortSignal.any([signal, other])),
  }
}

/** `wg` tries unknown host names again for minutes unless it is told not to. */
function environment(): Record<string, string> {
  const { LANG } = process.env
  return {
    PATH: searchPath(),
    WG_ENDPOINT_RESOLUTION_RETRIES: '2',
    ...(LANG && { LANG }),
  }
}
