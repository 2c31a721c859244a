import { execFile } from 'node:child_process'
import { chmod, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

/** The refusal of a path that something else than a FIFO has taken (system-api's words). */
export function notAPipe(path: string): Error {
  return new Error(`file ${path} is not a named pipe`)
}

/**
 * Makes a FIFO with exactly these permission bits, whatever the umask. No runtime has `mkfifo` as
 * a call, so the program of that name does it.
 *
 * @throws {Error} Naming the path; the message contains `no such file or directory` when its
 *   folder is missing.
 */
export async function makeFifo(path: string, mode: number): Promise<void> {
  const folder = await stat(dirname(path)).catch(() => undefined)
  if (!folder) throw new Error(`Cannot make the FIFO "${path}": no such file or directory`)
  await new Promise<void>((resolve, reject) => {
    // Made private first: nobody gets in before the mode is the wanted one.
    execFile('mkfifo', ['-m', '600', '--', path], (cause, _stdout, stderr) => {
      if (!cause) return resolve()
      const why = stderr.trim() || cause.message
      reject(new Error(`Cannot make the FIFO "${path}": ${why}`, { cause }))
    })
  })
  await chmod(path, mode)
}
