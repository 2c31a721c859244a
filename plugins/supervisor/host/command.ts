import { problemOf, searchPath } from '../../../src/process/host-program.ts'
import { type ProcessResult, runProcess } from '../../../src/process/run.ts'
import { HostError } from './host-error.ts'

/** Variables of the daemon's own environment that host commands see. */
export const PASSED_ON = ['PATH', 'LANG', 'TZ'] as const

const TIMEOUT_MS = 30_000
const GRACE_MS = 2000
const MAX_OUTPUT_BYTES = 16 * 1024

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
  return { PATH: searchPath(), ...Object.fromEntries(set) }
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
  const run = { program: argv[0] ?? '', stderr: running.stderr.text(), timeoutMs: TIMEOUT_MS }
  return { result, stdout: running.stdout.text(), problem: problemOf(run, result) }
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
