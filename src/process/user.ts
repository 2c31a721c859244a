import { readFileSync } from 'node:fs'

/** A user a process can run as. */
export interface User {
  readonly name: string
  readonly uid: number
  readonly gid: number
  readonly home: string
  /** Supplementary groups, without the primary one. */
  readonly groups: readonly number[]
}

/**
 * Looks a user up in the local account files.
 *
 * @param wanted Name, or numeric uid.
 * @param etc Folder of `passwd` and `group`.
 * @throws {Error} When there is no such user or the files cannot be read.
 * Source: passwd(5), group(5).
 */
export function findUser(wanted: string | number, etc = '/etc'): User {
  for (const line of lines(`${etc}/passwd`)) {
    const [name = '', , uid, gid, , home = '/'] = line.split(':')
    if (name !== wanted && uid !== String(wanted)) continue
    return {
      name,
      uid: Number(uid),
      gid: Number(gid),
      home,
      groups: groupsOf(name, etc).filter((group) => group !== Number(gid)),
    }
  }
  throw new Error(`no user "${wanted}" in ${etc}/passwd`)
}

function groupsOf(user: string, etc: string): number[] {
  return lines(`${etc}/group`)
    .map((line) => line.split(':'))
    .filter(([, , , members = '']) => members.split(',').includes(user))
    .map(([, , gid]) => Number(gid))
}

function lines(file: string): string[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
}
