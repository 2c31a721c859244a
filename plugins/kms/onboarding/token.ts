import { randomBytes, timingSafeEqual } from 'node:crypto'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { tokenDigest } from '../../../src/auth/key-token.ts'
import { removeLeftOvers, writeFileAtomic } from '../../../src/files/atomic-file.ts'
import { makeFolder } from '../../../src/files/make-folder.ts'

/** By what a KMS is set up only by somebody who can read a file of its. */
export interface OnboardToken {
  /** The file. */
  readonly path: string
  /** Whether this is the token; takes as long for every text of one length. */
  matches(text: string): boolean
  /** Removes the file, unless somebody has made a newer one since. */
  remove(): Promise<void>
}

/** Name of the file in the plugin's folder. */
export const TOKEN_FILE = 'onboard-token'

const TOKEN_BYTES = 32

/**
 * Makes a token, 32 random bytes in base64url, in a file that its owner alone may read; one of an
 * earlier start is replaced. What is kept in memory is its hash.
 *
 * @throws {Error} The system error.
 */
export async function createOnboardToken(stateDir: string): Promise<OnboardToken> {
  makeFolder(stateDir, 0o700)
  const path = join(stateDir, TOKEN_FILE)
  await removeLeftOvers(path)
  const token = randomBytes(TOKEN_BYTES).toString('base64url')
  await writeFileAtomic(path, `${token}\n`, 0o600)
  const digest = tokenDigest(token)
  const matches = (text: string) => timingSafeEqual(tokenDigest(text), digest)
  return {
    path,
    matches,
    async remove() {
      try {
        if (matches((await readFile(path, 'utf8')).trim())) await rm(path, { force: true })
      } catch {
        // It is gone, or stays: what asked for it is no longer served, so it opens nothing.
      }
    },
  }
}
