import { goErrno } from '../../src/compat/go-errors.ts'
import { ApiError } from '../../src/errors.ts'
import { runProcess } from '../../src/process/run.ts'
import { refused, UploadFailure } from './failure.ts'

/** Enough for a syntax checker's complaint; the last so many bytes of each stream are kept. */
const MAX_OUTPUT_BYTES = 4096

const GRACE_MS = 2000

/** All the program gets to see of the environment. */
const ENVIRONMENT = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LC_ALL: 'C.UTF-8',
}

/** A program that has to accept a file. */
export interface Verification {
  readonly name: string
  /** Program and arguments; `{file}` in any of them becomes the path. */
  readonly argv: readonly string[]
  readonly timeoutMs: number
  /** Ends the program. */
  readonly signal: AbortSignal
}

/**
 * Lets a program judge a file; it runs without a shell and in an environment of its own.
 *
 * @throws {UploadFailure} 422 `UPLOAD_REFUSED` with what the program printed, or 500
 *   `UPLOAD_VERIFY_UNAVAILABLE` when it cannot be started.
 */
export async function verify(file: string, { name, ...options }: Verification): Promise<void> {
  const argv = options.argv.map((word) => word.replaceAll('{file}', file))
  const program = runProcess({
    argv,
    env: ENVIRONMENT,
    cwd: '/',
    timeoutMs: options.timeoutMs,
    graceMs: GRACE_MS,
    maxOutputBytes: MAX_OUTPUT_BYTES,
  })
  const end = () => program.end()
  options.signal.addEventListener('abort', end)
  if (options.signal.aborted) end()
  const { exitCode, signal, errno, timedOut } = await program.done
  options.signal.removeEventListener('abort', end)
  if (errno !== undefined) {
    throw refused(
      500,
      'UPLOAD_VERIFY_UNAVAILABLE',
      `Cannot verify upload "${name}": cannot start "${argv[0]}": ${goErrno(errno)}`,
    )
  }
  if (exitCode === 0 && !timedOut) return
  const how = timedOut
    ? `did not finish within ${options.timeoutMs / 1000} s`
    : signal === undefined
      ? `ended with status ${exitCode}`
      : `was ended by ${signal}`
  const said = [program.stderr, program.stdout].map((tail) => tail.text().trim())
  const verdict = `Upload "${name}" was refused: "${argv[0]}" ${how}`
  // The temporary path would only puzzle the caller.
  const output = said.filter(Boolean).join('\n').replaceAll(file, '{file}')
  const answer = output === '' ? verdict : `${verdict}: ${output}`
  // The output is for the caller only: a checker quotes what it checks, and that may be secret.
  throw new UploadFailure('refused', verdict, new ApiError(422, 'UPLOAD_REFUSED', answer))
}
