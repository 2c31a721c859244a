import { readFile } from 'node:fs/promises'
import { findUser } from '../../src/process/user.ts'

/** Numeric owner of a file; -1 leaves that half as it is, as in chown(2). */
export interface Owner {
  readonly uid: number
  readonly gid: number
}

/**
 * Looks up `user`, `user:group` or numbers in their place.
 *
 * @param etc Folder of `passwd` and `group`; not read for numbers.
 * @throws {Error} When there is no such user or group. Source: passwd(5), group(5).
 */
export async function findOwner(owner: string, etc = '/etc'): Promise<Owner> {
  const [user = '', group] = owner.split(':')
  return {
    uid: numeric(user) ?? findUser(user, etc).uid,
    gid: group === undefined ? -1 : (numeric(group) ?? (await findGroup(group, etc))),
  }
}

function numeric(id: string): number | undefined {
  return /^\d+$/.test(id) ? Number(id) : undefined
}

async function findGroup(wanted: string, etc: string): Promise<number> {
  for (const line of (await readFile(`${etc}/group`, 'utf8')).split('\n')) {
    const [name, , gid] = line.split(':')
    if (name === wanted && gid !== undefined) return Number(gid)
  }
  throw new Error(`no group "${wanted}" in ${etc}/group`)
}
