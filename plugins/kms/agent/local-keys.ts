import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { errnoOf } from '../../../src/errors.ts'
import { writeFileAtomic } from '../../../src/files/atomic-file.ts'
import { p256Key } from '../certificates/p256-key.ts'
import { expandSeed } from '../derivation/sealing-seed.ts'
import type { KeySource } from './key-source.ts'
import { readSecretFile } from './secret-file.ts'

const SEED_BYTES = 32

/**
 * Keys of this VM's own, from a seed in a file that is made at the first start. Whoever can read
 * the state directory has them: it belongs on a disk that only this VM can read.
 *
 * @param onMade Called when there was no seed, so that all keys are new.
 * @throws {Error} The system error, or naming the file that is not what was written.
 */
export async function localKeys(stateDir: string, onMade: () => void): Promise<KeySource> {
  const path = join(stateDir, 'sealing-seed')
  const seed = (await readSeed(path)) ?? (await makeSeed(path, onMade))
  const { authority, root } = expandSeed(seed)
  seed.fill(0)
  const key = p256Key(authority)
  authority.fill(0)
  return {
    from: `the seed in "${path}"`,
    root,
    rootSignature: new Uint8Array(),
    authority: { kind: 'own', key },
  }
}

async function readSeed(path: string): Promise<Uint8Array | undefined> {
  try {
    const seed = await readSecretFile(path, SEED_BYTES)
    if (seed.length === SEED_BYTES) return seed
    throw new Error(`Cannot use "${path}": it has ${seed.length} bytes, expected ${SEED_BYTES}`)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}

async function makeSeed(path: string, onMade: () => void): Promise<Uint8Array> {
  const seed = usableSeed()
  await writeFileAtomic(path, seed)
  onMade()
  return seed
}

function usableSeed(): Uint8Array {
  for (;;) {
    const seed = randomBytes(SEED_BYTES)
    try {
      expandSeed(seed)
      return seed
    } catch {
      // One seed in 2^32 gives no P-256 key.
    }
  }
}
