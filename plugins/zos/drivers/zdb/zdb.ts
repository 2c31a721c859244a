import { isIP } from 'node:net'
import { messageOf } from '../../../../src/errors.ts'
import type { Zdb } from '../../model.ts'
import { type Driver, DriverError, type HealthCheck, type Task } from '../driver.ts'
import { openZdb, type ZdbLink, type ZdbLinkOptions } from './zdb-link.ts'

export interface ZdbOptions extends ZdbLinkOptions {
  /** Addresses by which tenants reach it; default: the configured one, if it is an IP address. */
  readonly ips?: (() => readonly string[]) | undefined
  /** Port by which tenants reach it; default: the configured one. */
  readonly publicPort?: number | undefined
  /** Promises more than the disk has free; default false. */
  readonly overcommit?: boolean | undefined
}

/** 0-db has one word for no password. */
const NO_PASSWORD = '*'

/** Looked at one by one for what they were promised. */
const MAX_NAMESPACES = 10_000

/**
 * Namespaces of one 0-db that runs already, at a configured address (spec zos §12.2); each is named by
 * the id of its workload. The 0-db is this node's alone, but namespaces that are not ours stay.
 */
export function createZdbDriver(options: ZdbOptions): Driver<'zdb'> {
  const { address, overcommit = false, publicPort = address.port } = options
  const ips = options.ips ?? (() => (isIP(address.host) > 0 ? [address.host] : []))
  let last: Promise<unknown> = Promise.resolve()

  const result = (id: string) => ({ Namespace: id, IPs: ips(), Port: publicPort })

  async function using<T>(work: (zdb: ZdbLink) => Promise<T>): Promise<T> {
    const zdb = await openZdb(options)
    try {
      return await work(zdb)
    } finally {
      zdb.close()
    }
  }

  /** One at a time, for what one is promised the next cannot have. */
  function inTurn<T>(work: (zdb: ZdbLink) => Promise<T>): Promise<T> {
    const next = last.then(() => using(work))
    last = next.catch(() => undefined)
    return next
  }

  /** A pause that cannot be carried out leaves things as they are. */
  async function lock(id: string, value: '0' | '1'): Promise<void> {
    try {
      await using(async (zdb) => {
        if (await zdb.info(id)) await zdb.set(id, 'lock', value)
      })
    } catch (cause) {
      const message = `failed to set namespace locking: ${messageOf(cause)}`
      throw new DriverError('unchanged', message, { cause })
    }
  }

  return {
    type: 'zdb',
    name: '0-db',

    async probe() {
      try {
        return await using(async (zdb) => {
          await zdb.ping()
          // Any server of the protocol answers the first.
          const { diskFree } = (await zdb.info('default')) ?? {}
          if (diskFree !== undefined) return { able: true } as const
          const warning =
            'The 0-db does not say how much space it has: namespaces are not limited by it'
          return { able: true, warning } as const
        })
      } catch (error) {
        return { able: false, reason: messageOf(error) }
      }
    },

    async provision(task) {
      const { data } = task.workload
      assertPassword(data)
      await inTurn(async (zdb) => {
        let info = await zdb.info(task.id)
        if (!info) {
          await assertSpace(zdb, data.size, overcommit, 'failed', NO_SPACE)
          await zdb.create(task.id)
          info = await zdb.info(task.id)
        }
        // Also after a crash in between; a mode cannot change once there is something in it.
        if (info?.mode !== data.mode && info?.entries === 0n)
          await zdb.set(task.id, 'mode', data.mode)
        await zdb.set(task.id, 'password', data.password === '' ? NO_PASSWORD : data.password)
        await zdb.set(task.id, 'public', data.public ? '1' : '0')
        await zdb.set(task.id, 'maxsize', String(data.size))
      })
      return result(task.id)
    },

    async update(task) {
      const { previous: old } = task
      const { data } = task.workload
      const refuse = (kind: DriverError['kind'], why: string): never => {
        throw new DriverError(kind, why, { data: { Namespace: '', IPs: null, Port: 0 } })
      }
      if (data.mode !== old.mode) refuse('unchanged', 'cannot change namespace mode')
      if (data.size < old.size) refuse('unchanged', 'cannot shrink zdb namespace')
      if (!differs(data, old)) refuse('no-action', 'the namespace is so already')
      assertPassword(data)
      try {
        await inTurn((zdb) => change(zdb, task.id, data, old, overcommit))
      } catch (error) {
        if (error instanceof DriverError && error.kind === 'unchanged') throw error
        throw new DriverError('unchanged', messageOf(error), { cause: error })
      }
      return result(task.id)
    },

    deprovision: (task) => using((zdb) => zdb.remove(task.id)),
    pause: (task) => lock(task.id, '1'),
    resume: (task) => lock(task.id, '0'),

    async health(task: Task<'zdb'>): Promise<readonly HealthCheck[]> {
      try {
        const info = await using((zdb) => zdb.info(task.id))
        const message = info
          ? `${info.dataSize} of ${info.dataLimit} bytes are used${info.locked ? ', it is locked' : ''}`
          : 'there is no namespace'
        return [{ name: 'namespace', ok: info !== undefined, message }]
      } catch (error) {
        return [{ name: 'namespace', ok: false, message: messageOf(error) }]
      }
    },
  }
}

const NO_SPACE =
  "couldn't allocate device to satisfy namespace size: not enough space left in pools of this type hdd"

function differs(data: Zdb, old: Zdb): boolean {
  return data.size !== old.size || data.password !== old.password || data.public !== old.public
}

/** What 0-db would take for the wish to have none. */
function assertPassword({ password }: Zdb): void {
  if (password !== NO_PASSWORD) return
  throw new DriverError('failed', 'The password of a namespace cannot be a single asterisk')
}

async function change(
  zdb: ZdbLink,
  id: string,
  data: Zdb,
  old: Zdb,
  overcommit: boolean,
): Promise<void> {
  if (!(await zdb.info(id))) throw new DriverError('unchanged', 'namespace not found')
  // First what fails easily.
  if (data.size !== old.size) {
    const text = 'no enough free space to support new size'
    await assertSpace(zdb, data.size - old.size, overcommit, 'unchanged', text)
    await zdb.set(id, 'maxsize', String(data.size))
  }
  if (data.password !== old.password) {
    await zdb.set(id, 'password', data.password === '' ? NO_PASSWORD : data.password)
  }
  if (data.public !== old.public) await zdb.set(id, 'public', data.public ? '1' : '0')
}

/** @throws {DriverError} When what is free, less what others were promised, is not enough. */
async function assertSpace(
  zdb: ZdbLink,
  bytes: bigint,
  overcommit: boolean,
  kind: DriverError['kind'],
  text: string,
): Promise<void> {
  const free = (await zdb.info('default'))?.diskFree
  if (overcommit || free === undefined) return
  let promised = 0n
  for (const name of (await zdb.list()).slice(0, MAX_NAMESPACES)) {
    const info = await zdb.info(name)
    if (info && info.dataLimit > info.dataSize) promised += info.dataLimit - info.dataSize
  }
  if (promised + bytes > free) throw new DriverError(kind, text)
}
