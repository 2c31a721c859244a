import { accessSync } from 'node:fs'
import { join } from 'node:path'
import { errnoOf } from '../errors.ts'
import { runtime } from '../runtime.ts'

/** Not `sh`: that of Debian knows descriptors of one digit only. */
export const BASH = '/bin/bash'

const CLOSE_AND_RUN =
  'for fd in $(ls /proc/$$/fd); do ((fd > 2)) && eval "exec $fd>&-"; done; exec "$@"'

/**
 * The command of a program that outlives the daemon. Deno (2.9) gives Unix sockets that it listens on
 * to every program it starts: they would seem to be in use, the claim on the state folder among them,
 * for as long as such a program runs. There they are closed before it begins, if there is a bash.
 *
 * @returns As it was on other runtimes, and for a program that is missing.
 */
export function lastingArgv(argv: readonly string[]): readonly string[] {
  if (runtime !== 'deno' || isMissing(BASH) || isMissing(argv[0] ?? '')) return argv
  return [BASH, '-c', CLOSE_AND_RUN, 'bash', ...argv]
}

/** One that Deno's permissions hide may be there. */
function isMissing(program: string): boolean {
  const folders = (process.env.PATH ?? '').split(':')
  const places = program.includes('/') ? [program] : folders.map((one) => join(one, program))
  return places.every((path) => {
    try {
      accessSync(path)
      return false
    } catch (error) {
      return errnoOf(error) === 'ENOENT'
    }
  })
}
