import { createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'
import { listenTo } from './zos-gateway.ts'

export interface Namespace {
  mode: string
  password: string
  public: boolean
  maxsize: bigint
  locked: boolean
  entries: number
  dataSize: bigint
}

/** A 0-db that keeps namespaces in memory and answers as 0-db does (its `README.md`). */
export interface ZdbServer {
  readonly port: number
  readonly namespaces: Map<string, Namespace>
  /** Every command that arrived, its words joined by spaces. */
  readonly commands: string[]
  diskFree: bigint | undefined
  /** In place of an answer; undefined to answer as usual. */
  fault: ((words: readonly string[], socket: Socket) => string | undefined) | undefined
}

export async function startZdb(t: TestContext, admin?: string): Promise<ZdbServer> {
  const namespaces = new Map([['default', fresh()]])
  const zdb = {
    namespaces,
    commands: [] as string[],
    diskFree: 1_000_000n as bigint | undefined,
    fault: undefined as ZdbServer['fault'],
  }
  const server = createServer((socket) => {
    let received = ''
    let allowed = admin === undefined
    socket.on('data', (data) => {
      received += data.toString('latin1')
      for (let words = take(); words; words = take()) {
        zdb.commands.push(words.join(' '))
        const faulty = zdb.fault?.(words, socket)
        if (faulty !== undefined) socket.write(faulty)
        else socket.write(answer(words))
      }
    })
    function take(): string[] | undefined {
      const parsed = readCommand(received)
      if (!parsed) return undefined
      received = received.slice(parsed.length)
      return parsed.words
    }
    function answer([
      command = '',
      name = '',
      property = '',
      value = '',
    ]: readonly string[]): string {
      if (command === 'PING') return '+PONG\r\n'
      if (command === 'AUTH') {
        allowed = name === admin
        return allowed ? '+OK\r\n' : '-Access denied\r\n'
      }
      if (command === 'NSLIST') return array([...namespaces.keys()])
      if (command === 'NSINFO') {
        const namespace = namespaces.get(name)
        return namespace
          ? bulk(infoText(name, namespace, zdb.diskFree))
          : '-Namespace not found\r\n'
      }
      if (!allowed) return '-Permission denied\r\n'
      if (command === 'NSNEW') {
        if (namespaces.has(name)) return '-This namespace is not available\r\n'
        namespaces.set(name, fresh())
        return '+OK\r\n'
      }
      const namespace = namespaces.get(name)
      if (!namespace) return '-Namespace not found\r\n'
      if (command === 'NSDEL') {
        namespaces.delete(name)
        return '+OK\r\n'
      }
      if (command === 'NSSET') return set(namespace, property, value)
      return '-Command not supported\r\n'
    }
  })
  const port = await listenTo(t, server)
  return Object.assign(zdb, { port })
}

function fresh(): Namespace {
  return {
    mode: 'user',
    password: '',
    public: true,
    maxsize: 0n,
    locked: false,
    entries: 0,
    dataSize: 0n,
  }
}

function set(namespace: Namespace, property: string, value: string): string {
  if (property === 'maxsize') namespace.maxsize = BigInt(value)
  else if (property === 'password') namespace.password = value === '*' ? '' : value
  else if (property === 'public') namespace.public = value === '1'
  else if (property === 'lock') namespace.locked = value === '1'
  else if (property === 'mode') {
    if (namespace.entries > 0) return '-Cannot change mode on non-empty namespace\r\n'
    namespace.mode = value
  } else return '-Invalid property\r\n'
  return '+OK\r\n'
}

function infoText(name: string, namespace: Namespace, diskFree: bigint | undefined): string {
  const yes = (value: boolean) => (value ? 'yes' : 'no')
  const lines = [
    '# namespace',
    `name: ${name}`,
    `entries: ${namespace.entries}`,
    `public: ${yes(namespace.public)}`,
    `password: ${yes(namespace.password !== '')}`,
    `data_size_bytes: ${namespace.dataSize}`,
    `data_size_mb: 0.00`,
    `data_limits_bytes: ${namespace.maxsize}`,
    `mode: ${namespace.mode === 'user' ? 'userkey' : 'sequential'}`,
    `worm: no`,
    `locked: ${yes(namespace.locked)}`,
  ]
  if (diskFree !== undefined) lines.push(`data_disk_freespace_bytes: ${diskFree}`)
  return `${lines.join('\n')}\n`
}

const bulk = (text: string) => `$${text.length}\r\n${text}\r\n`
const array = (items: readonly string[]) => `*${items.length}\r\n${items.map(bulk).join('')}`

function readCommand(text: string): { words: string[]; length: number } | undefined {
  const head = /^\*(\d+)\r\n/.exec(text)
  if (!head) return undefined
  const words: string[] = []
  let at = head[0].length
  for (let left = Number(head[1]); left > 0; left--) {
    const size = /^\$(\d+)\r\n/.exec(text.slice(at))
    if (!size) return undefined
    at += size[0].length
    const length = Number(size[1])
    if (text.length < at + length + 2) return undefined
    words.push(text.slice(at, at + length))
    at += length + 2
  }
  return { words, length: at }
}
