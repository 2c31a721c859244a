import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../../../../src/errors.ts'
import { writeFileAtomic } from '../../../../src/files/atomic-file.ts'
import { makeFolder } from '../../../../src/files/make-folder.ts'

/** A network that was made here, or was about to be. Nothing secret. */
export interface NetworkRecord {
  /** Workload it belongs to. */
  readonly id: string
  readonly type: 'network' | 'network-light'
  readonly netId: string
  /** UDP port of WireGuard; 0 for one that the kernel chose, or none. */
  readonly listenPort: number
}

/** What this daemon made, so that another one's networks on this host stay as they are. */
export interface Ledger {
  read(netId: string): Promise<NetworkRecord | undefined>
  write(record: NetworkRecord): Promise<void>
  remove(netId: string): Promise<void>
  all(): Promise<readonly NetworkRecord[]>
  /** A file beside the records for the time of one call. */
  temporary(netId: string): string
}

const SUFFIX = '.json'
const NET_ID = /^[1-9A-HJ-NP-Za-km-z]{1,13}$/

/** @param folder Made when it is not there, mode 0700. */
export function createLedger(folder: string): Ledger {
  const pathOf = (netId: string) => join(folder, `${netId}${SUFFIX}`)

  const read = async (netId: string): Promise<NetworkRecord | undefined> => {
    try {
      return parse(await readFile(pathOf(netId), 'utf8'), netId)
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined
      throw error
    }
  }

  return {
    read,
    async write(record) {
      makeFolder(folder, 0o700)
      await writeFileAtomic(pathOf(record.netId), `${JSON.stringify(record)}\n`)
    },
    remove: (netId) => rm(pathOf(netId), { force: true }),
    async all() {
      const names = await readdir(folder).catch((error) => {
        if (errnoOf(error) === 'ENOENT') return []
        throw error
      })
      const found: NetworkRecord[] = []
      for (const name of names) {
        const netId = name.slice(0, -SUFFIX.length)
        if (!name.endsWith(SUFFIX) || !NET_ID.test(netId)) continue
        const record = await read(netId)
        if (record !== undefined) found.push(record)
      }
      return found
    },
    temporary: (netId) => join(folder, `.${netId}.conf`),
  }
}

/** A damaged record still says that the network is ours. */
function parse(text: string, netId: string): NetworkRecord {
  try {
    const { id, type, listenPort } = JSON.parse(text)
    if (typeof id === 'string' && (type === 'network' || type === 'network-light')) {
      return { id, type, netId, listenPort: Number.isInteger(listenPort) ? listenPort : 0 }
    }
  } catch {}
  return { id: '', type: 'network', netId, listenPort: 0 }
}
