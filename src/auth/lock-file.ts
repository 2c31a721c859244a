import { randomBytes } from 'node:crypto'
import { readFile, rm, stat, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { errnoOf } from '../errors.ts'

/** How long to wait for another process, and from which age on a lock was left by a crash. */
const PATIENCE_MS = 5000
const STALE_MS = 30_000

/**
 * Runs `work` while no other process does, under a file made with `O_EXCL`. `assertHeld` is to be
 * called right before the result of the work becomes visible.
 *
 * A lock older than half a minute was left by a crash (the work takes milliseconds) and is taken
 * over. Two processes may do that at once and remove each other's; the random text in the file
 * lets `assertHeld` tell who lost.
 *
 * @throws {Error} When another process keeps the lock, or `assertHeld` finds it lost.
 */
export async function withLockFile<T>(
  path: string,
  work: (assertHeld: () => Promise<void>) => Promise<T>,
): Promise<T> {
  const mine = randomBytes(16).toString('hex')
  await acquire(path, mine)
  const held = async () => (await readFile(path, 'utf8').catch(() => '')) === mine
  try {
    return await work(async () => {
      if (!(await held())) throw new Error(`Lost the lock "${path}" to another process, try again`)
    })
  } finally {
    if (await held()) await rm(path, { force: true })
  }
}

async function acquire(path: string, mine: string): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS
  for (;;) {
    try {
      await writeFile(path, mine, { flag: 'wx', mode: 0o600 })
      return
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error
    }
    const age = await stat(path).then(
      ({ mtimeMs }) => Date.now() - mtimeMs,
      () => 0,
    )
    if (age > STALE_MS) await rm(path, { force: true })
    else if (performance.now() > deadline) {
      throw new Error(`Cannot get the lock "${path}": another process holds it`)
    } else await sleep(20)
  }
}
