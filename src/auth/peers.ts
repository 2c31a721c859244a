import * as v from 'valibot'
import type { PeerCredentials } from '../http/unix-peers.ts'
import { KeyName, KeyScopes } from './key-file.ts'
import { once, type Recogniser } from './recogniser.ts'

/** Entries of `[[auth.peers]]`. */
export const MAX_PEERS = 1000

/** What Linux shows for whomever a user namespace cannot name: anybody, that is. */
const OVERFLOW_ID = 65_534

const id = (description: string) =>
  v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(0),
      v.maxValue(2 ** 32 - 2),
      v.notValue(OVERFLOW_ID, `${OVERFLOW_ID} stands for everybody the kernel has no number for`),
      v.description(description),
    ),
  )

/** One `[[auth.peers]]` table: a program of this user, or group, is that caller. */
export const KnownPeer = v.pipe(
  v.strictObject({
    name: v.pipe(KeyName, v.description('Name of the caller')),
    scopes: v.pipe(KeyScopes, v.description('What the caller may do')),
    uid: id('Number of the user'),
    gid: id('Number of the primary group; with uid, both have to fit'),
  }),
  v.check(({ uid, gid }) => uid !== undefined || gid !== undefined, 'give uid, gid or both'),
)

export type KnownPeer = v.InferOutput<typeof KnownPeer>

/** Whom users of this machine stand for. Of several entries that fit one, the first counts. */
export function recognisePeers(entries: readonly KnownPeer[]): Recogniser {
  const known = entries.map(({ name, scopes, uid, gid }) => {
    return { uid, gid, caller: { kind: 'peer', name, scopes } } as const
  })
  const callerOf = once((peer: PeerCredentials) => {
    const fits = (wanted: number | undefined, is: number) => wanted === undefined || wanted === is
    return known.find(({ uid, gid }) => fits(uid, peer.uid) && fits(gid, peer.gid))?.caller
  })
  return (exchange) => {
    const peer = exchange.credentials()
    if (peer === undefined) return { refused: 'It cannot be told who is at the other end' }
    const caller = callerOf(peer)
    const { uid, gid } = peer
    return caller ? { caller } : { refused: `User ${uid} of group ${gid} is nobody known here` }
  }
}
