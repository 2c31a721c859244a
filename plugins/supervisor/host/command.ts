import { type ProcessResult, runProcess } from '../../../src/process/run.ts'
import { HostError } from './host-error.ts'

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Variables of the daemon's own environment that host commands see. */
export const PASSED_ON = ['PATH', 'LANG', 'TZ'] as const

const TIMEOUT_MS = 30_000
const GRACE_MS = 2000
const MAX_OUTPUT_BYTES = 16 * 1024
const MAX_REASON = 200

/** How a host command ended. */
export interface CommandEnd {
  readonly result: ProcessResult
  readonly stdout: string
  /** What went wrong, for messages; undefined after exit status 0. */
  readonly problem: string | undefined
}

/** The environment of host commands. */
export function hostEnvironment(): Record<string, string> {
  const own = PASSED_ON.map((name) => [name, process.env[name]] as const)
  const set = own.filter((entry): entry is [(typeof PASSED_ON)[number], string] => !!entry[1])
  return { PATH: DEFAULT_PATH, ...Object.fromEntries(set) }
}

/** Runs a program of the host without a shell, for 30 s at most; never rejects. */
export async function runCommand(argv: readonly string[]): Promise<CommandEnd> {
  const running = runProcess({
    argv,
    env: hostEnvironment(),
    timeoutMs: TIMEOUT_MS,
    graceMs: GRACE_MS,
    maxOutputBytes: MAX_OUTPUT_BYTES,
  })
  const result = await running.done
  const stderr = running.stderr.text().replace(/\s+/g, ' ').trim().slice(0, MAX_REASON)
  return { result, stdout: running.stdout.text(), problem: problemOf(argv, result, stderr) }
}

/**
 * As {@link runCommand}.
 *
 * @param what What is being done, for the message: `reboot`.
 * @throws {HostError} `HOST_COMMAND_FAILED` unless it ended with exit status 0.
 */
export async function mustRun(argv: readonly string[], what: string): Promise<CommandEnd> {
  const end = await runCommand(argv)
  if (end.problem === undefined) return end
  throw new HostError('HOST_COMMAND_FAILED', 503, `Cannot ${what}: ${end.problem}`)
}

function problemOf(
  argv: readonly string[],
  { errno, exitCode, signal, timedOut }: ProcessResult,
  stderr: string,
): string | undefined {
  const program = argv[0] ?? ''
  if (errno === 'ENOENT') return `"${program}" is not installed`
  if (errno !== undefined) return `"${program}" cannot be started (${errno})`
  if (timedOut) return `"${program}" took longer than ${TIMEOUT_MS / 1000} s`
  if (exitCode === 0) return undefined
  const end = signal === undefined ? `exit status ${exitCode}` : `signal ${signal}`
  return `"${program}" ended with ${end}${stderr === '' ? '' : `: ${stderr}`}`
}
