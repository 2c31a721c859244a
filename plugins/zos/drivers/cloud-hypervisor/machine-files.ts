import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../../../../src/errors.ts'
import { writeFileAtomic } from '../../../../src/files/atomic-file.ts'
import { makeFolder } from '../../../../src/files/make-folder.ts'
import { deviceName } from '../../deployment/ids.ts'

export type MachineType = 'zmachine' | 'zmachine-light'

/** What a machine is made of on this host, so that it can be taken over and removed. No secrets. */
export interface MachineRecord {
  readonly type: MachineType
  readonly taps: readonly string[]
  /** virtiofsd processes. */
  readonly shares: readonly ProcessMark[]
  readonly hypervisor: ProcessMark | undefined
}

/** A process, told from another one that got its number later. */
export interface ProcessMark {
  readonly pid: number
  /** Clock ticks from the start of the system to its own; undefined where nobody could read it. */
  readonly started: string | undefined
}

/** Files of one machine: a folder of its own, and sockets with short names elsewhere. */
export interface MachineFiles {
  readonly folder: string
  readonly rootDisk: string
  /** Has the environment in it. */
  readonly seedDisk: string
  readonly serialLog: string
  /** What the hypervisor says. */
  readonly hypervisorLog: string
  readonly socket: string
  shareSocket(index: number): string
}

export interface MachineStore {
  files(id: string): MachineFiles
  read(id: string): Promise<MachineRecord | undefined>
  /** Makes the folder, mode 0700. */
  write(id: string, record: MachineRecord): Promise<void>
  remove(id: string): Promise<void>
  /** Ids of all machines with a folder. */
  all(): Promise<readonly string[]>
}

const ID = /^\d{1,10}-\d{1,20}-[A-Za-z0-9_]{1,36}$/
const RECORD = 'machine.json'

/** A socket's address has 107 bytes at most (unix(7)). */
export const MAX_RUN_FOLDER = 107 - '/1234567890abc-255.sock'.length

/**
 * @param folder Of all machines.
 * @param runFolder Of sockets; its path must be at most {@link MAX_RUN_FOLDER} bytes.
 */
export function machineStore(folder: string, runFolder: string): MachineStore {
  const files = (id: string): MachineFiles => {
    if (!ID.test(id)) throw new RangeError(`"${id}" is no id of a workload`)
    const own = join(folder, id)
    const short = join(runFolder, deviceName(id, 'vm'))
    return {
      folder: own,
      rootDisk: join(own, 'root.img'),
      seedDisk: join(own, 'seed.img'),
      serialLog: join(own, 'serial.log'),
      hypervisorLog: join(own, 'hypervisor.log'),
      socket: `${short}.sock`,
      shareSocket: (index) => `${short}-${index}.sock`,
    }
  }
  return {
    files,
    async read(id) {
      try {
        return parse(await readFile(join(files(id).folder, RECORD), 'utf8'))
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return undefined
        throw error
      }
    },
    async write(id, record) {
      makeFolder(files(id).folder, 0o700)
      makeFolder(runFolder, 0o700)
      await writeFileAtomic(join(files(id).folder, RECORD), `${JSON.stringify(record)}\n`)
    },
    async remove(id) {
      const { folder: own, socket } = files(id)
      await rm(socket, { force: true })
      await rm(own, { recursive: true, force: true })
    },
    async all() {
      const names = await readdir(folder).catch((error) => {
        if (errnoOf(error) === 'ENOENT') return []
        throw error
      })
      return names.filter((name) => ID.test(name))
    },
  }
}

/** What a damaged record does not tell is not known; the machine is made anew then. */
function parse(text: string): MachineRecord | undefined {
  try {
    const { type, taps, shares, hypervisor } = JSON.parse(text)
    if (type !== 'zmachine' && type !== 'zmachine-light') return undefined
    const strings = Array.isArray(taps) ? taps.filter((tap) => typeof tap === 'string') : []
    const marks = Array.isArray(shares) ? shares.map(markOf) : []
    return {
      type,
      taps: strings,
      shares: marks.filter((mark) => mark !== undefined),
      hypervisor: markOf(hypervisor),
    }
  } catch {
    return undefined
  }
}

function markOf(value: unknown): ProcessMark | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { pid, started } = value as { readonly pid?: unknown; readonly started?: unknown }
  if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid < 2) return undefined
  return { pid, started: typeof started === 'string' ? started : undefined }
}
