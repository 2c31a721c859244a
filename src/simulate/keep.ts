import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf, messageOf } from '../errors.ts'
import { writeFileAtomic } from '../files/atomic-file.ts'
import type { DistinguishedName } from '../x509/issue.ts'
import { type Identity, readIdentities, writeIdentities } from './identity.ts'

/**
 * Identities that stay the same over restarts: read from a file, or made and written to it, mode
 * 0600. They are random and not derived from a fixed seed, which anybody could repeat.
 *
 * @param folder Where the file is; without one the identities are made and not kept.
 * @param subjects Of the identities, by the names under which `create` returns them.
 * @throws {Error} When the file cannot be read or written, or holds something else.
 */
export async function keepIdentities<K extends string>(
  folder: string | undefined,
  file: string,
  subjects: Readonly<Record<K, DistinguishedName>>,
  create: () => Readonly<Record<K, Identity>>,
): Promise<Readonly<Record<K, Identity>>> {
  if (folder === undefined) return create()
  const path = join(folder, file)
  const names = Object.keys(subjects) as K[]
  const pem = await readIfThere(path)
  if (pem === undefined) {
    const made = create()
    await writeFileAtomic(path, writeIdentities(names.map((name) => made[name])), 0o600)
    return made
  }
  try {
    const identities = readIdentities(
      pem,
      names.map((name) => subjects[name]),
    )
    return Object.fromEntries(names.map((name, i) => [name, identities[i]])) as Record<K, Identity>
  } catch (cause) {
    const why = messageOf(cause)
    const message = `Cannot use the simulator's keys in "${path}": ${why}; remove it to get new ones`
    throw new Error(message, { cause })
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
}
