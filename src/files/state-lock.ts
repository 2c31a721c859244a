import { rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { messageOf } from '../errors.ts'
import { answers, EXIT, ListenError } from '../http/listen.ts'
import { makeFolder } from './make-folder.ts'

/**
 * Makes the state directory and claims it for this process: a Unix socket in it answers as long
 * as the owner lives, so that the kernel releases the claim even after `kill -9`.
 *
 * @returns The function that releases it.
 * @throws {ListenError} With exit status 75 when another cvmd owns it.
 */
export async function lockState(stateDir: string): Promise<() => Promise<void>> {
  const path = join(stateDir, 'lock')
  const fail = (why: string, code: number, cause?: unknown): never => {
    throw new ListenError(`Cannot use the state directory ${stateDir}: ${why}`, code, { cause })
  }
  try {
    makeFolder(stateDir, 0o700)
    if (await answers(path)) fail('another cvmd is using it', EXIT.alreadyRunning)
    rmSync(path, { force: true })
  } catch (error) {
    if (error instanceof ListenError) throw error
    fail(messageOf(error), EXIT.failed, error)
  }
  const server = createServer((socket) => socket.destroy())
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, resolve)
  }).catch((error) => fail(messageOf(error), EXIT.failed, error))
  server.unref()
  return () => new Promise((resolve) => server.close(() => resolve()))
}
