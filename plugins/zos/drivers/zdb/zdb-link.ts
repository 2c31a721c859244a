import { isIPv6 } from 'node:net'
import { messageOf } from '../../../../src/errors.ts'
import { connectRedis, type RedisLink, RedisRefusal, type RedisReply } from '../../bus/redis.ts'
import { DriverError } from '../driver.ts'
import { type NamespaceInfo, readNamespaceInfo } from './namespace-info.ts'

export interface ZdbAddress {
  /** Name or IP address. */
  readonly host: string
  readonly port: number
}

export interface ZdbLinkOptions {
  readonly address: ZdbAddress
  /** Password of the administrator (`--admin`); undefined where there is none. Read each time. */
  readonly admin?: (() => Promise<string | undefined>) | undefined
  /** Longest wait for the connection, and for each answer; default 10 s. */
  readonly timeoutMs?: number | undefined
}

/** Commands of 0-db, on one connection. */
export interface ZdbLink {
  ping(): Promise<void>
  /** Names of all namespaces. */
  list(): Promise<readonly string[]>
  /** Undefined when there is no such namespace. */
  info(namespace: string): Promise<NamespaceInfo | undefined>
  create(namespace: string): Promise<void>
  remove(namespace: string): Promise<void>
  set(namespace: string, property: ZdbProperty, value: string): Promise<void>
  close(): void
}

export type ZdbProperty = 'maxsize' | 'password' | 'public' | 'mode' | 'lock'

const TIMEOUT_MS = 10_000
const MAX_REASON = 100

/** More than a disk holds by far. */
const MAX_NAMESPACES = 100_000

/**
 * @throws {DriverError} `transient` when it cannot be reached, `failed` when it refuses or is no 0-db;
 * neither says a password.
 */
export async function openZdb(options: ZdbLinkOptions): Promise<ZdbLink> {
  const { address, admin, timeoutMs = TIMEOUT_MS } = options
  const label = isIPv6(address.host)
    ? `[${address.host}]:${address.port}`
    : `${address.host}:${address.port}`
  const away = (cause: unknown) => {
    // The errors of some runtimes hold what was sent.
    const why = cause instanceof AggregateError ? 'nobody accepts connections' : messageOf(cause)
    return new DriverError(
      'transient',
      `Cannot reach 0-db at ${label}: ${why.slice(0, MAX_REASON)}`,
    )
  }
  let link: RedisLink
  try {
    link = await connectRedis({ url: `redis://${label}`, label }, timeoutMs)
  } catch (error) {
    throw away(error)
  }
  /** `secret`: whether the arguments, and so perhaps the answer, are not for everybody. */
  const ask = async (args: readonly string[], secret = false): Promise<RedisReply> => {
    try {
      return await link.send(args, timeoutMs)
    } catch (error) {
      if (!(error instanceof RedisRefusal))
        throw away(secret ? new Error('it did not answer') : error)
      throw new ZdbRefusal(label, args[0] ?? '', secret ? '' : error.message)
    }
  }
  const must = async (args: readonly string[], secret = false): Promise<void> => {
    const reply = await ask(args, secret)
    if (reply !== 'OK') throw new ZdbRefusal(label, args[0] ?? '', 'its answer is not OK')
  }
  try {
    const password = await admin?.()
    if (password !== undefined && password !== '') await must(['AUTH', password], true)
  } catch (error) {
    link.close()
    throw error
  }
  return {
    async ping() {
      if ((await ask(['PING'])) !== 'PONG') throw new ZdbRefusal(label, 'PING', 'it says no PONG')
    },
    async list() {
      const names = await ask(['NSLIST'])
      if (Array.isArray(names) && names.length <= MAX_NAMESPACES && names.every(isText))
        return names
      throw new ZdbRefusal(label, 'NSLIST', 'its answer is no list of names')
    },
    async info(namespace) {
      let reply: RedisReply
      try {
        reply = await ask(['NSINFO', namespace])
      } catch (error) {
        if (error instanceof ZdbRefusal && /not found/i.test(error.reply)) return undefined
        throw error
      }
      const info = typeof reply === 'string' ? readNamespaceInfo(reply) : undefined
      if (info) return info
      throw new ZdbRefusal(label, 'NSINFO', 'its answer describes no namespace')
    },
    create: (namespace) => must(['NSNEW', namespace]),
    async remove(namespace) {
      try {
        await must(['NSDEL', namespace])
      } catch (error) {
        if (!(error instanceof ZdbRefusal && /not found/i.test(error.reply))) throw error
      }
    },
    set: (namespace, property, value) =>
      must(['NSSET', namespace, property, value], property === 'password'),
    close: () => link.close(),
  }
}

/** An answer that is an error, or not one of the command. */
export class ZdbRefusal extends DriverError {
  /** Of the 0-db; '' where it might hold a secret. */
  readonly reply: string

  constructor(label: string, command: string, reply: string) {
    // What it writes is not ours to trust.
    const text = reply.replace(/[^\x20-\x7e]/g, '?').slice(0, MAX_REASON)
    super('failed', `0-db at ${label} refuses ${command}${text === '' ? '' : `: ${text}`}`)
    this.reply = text
  }
}

function isText(value: RedisReply): value is string {
  return typeof value === 'string'
}
