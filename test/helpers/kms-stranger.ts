import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ConnectionOptions } from 'node:tls'
import type { RequestCount } from '../../plugins/kms/admin/counts.ts'
import { ROOT_FILES } from '../../plugins/kms/server/root-file-names.ts'
import { readRootFiles } from '../../plugins/kms/server/root-files.ts'
import type { RootMaterial } from '../../plugins/kms/server/root-material.ts'
import { keepIdentities } from '../../src/simulate/keep.ts'
import { type createTdxPki, TDX_SUBJECTS } from '../../src/simulate/tdx-pki.ts'
import { type Client, type Cloud, cloud } from '../plugins/kms-server-fixtures.ts'
import { unixRequest } from './daemon.ts'
import type { KmsDaemon } from './kms-daemon.ts'
import { type RawAnswer, RawClient } from './raw-http.ts'
import { Heard } from './secret-traces.ts'

/** How long an answer may take on a machine that is busy with other tests. */
const WAIT_MS = 20_000

/** A KMS in another process, as everybody sees it who can reach its port. */
export interface StrangeKms {
  readonly port: number
  /** All that it sent, on every connection. */
  readonly heard: Heard
  /** Machines of the same maker as the one it runs on. */
  readonly machines: Cloud
  /** What is in its files, which no caller is to learn. */
  readonly material: RootMaterial
  /** A connection with TLS, or without, from an address that nobody came from before. */
  connect(client?: Client, options?: ConnectionOptions & From): Promise<RawClient>
  plain(from?: From): Promise<RawClient>
  /** One request on a connection of its own. */
  ask(client: Client | undefined, method: string, body?: Body, head?: string): Promise<RawAnswer>
  /** How often each method ended how, as `METHOD OUTCOME REASON`. */
  counts(): Promise<ReadonlyMap<string, number>>
}

export interface From {
  /** Loopback address. */
  readonly from?: string
}

export type Body = string | Uint8Array | object

export function strangeKms(daemon: KmsDaemon, port: number, pki: Cloud): StrangeKms {
  const heard = new Heard()
  let callers = 0
  const address = () => {
    callers += 1
    return `127.${1 + Math.floor(callers / 250 / 250)}.${Math.floor(callers / 250) % 250}.${1 + (callers % 250)}`
  }
  const recorded = (client: RawClient) => {
    client.heard = heard.stream()
    return client
  }
  const connect: StrangeKms['connect'] = async (client, { from = address(), ...options } = {}) => {
    const own = client && { cert: client.cert, key: client.key.pem }
    const tls = { rejectUnauthorized: false, ...own, ...options }
    return recorded(await RawClient.connect({ port, from, tls }))
  }
  return {
    port,
    heard,
    machines: pki,
    material: materialIn(daemon.keys),
    connect,
    plain: async ({ from = address() } = {}) => recorded(await RawClient.connect({ port, from })),
    async ask(client, method, body = {}, head = '') {
      const connection = await connect(client)
      try {
        connection.send(post(method, body, head))
        const answer = await connection.answer(WAIT_MS)
        assert.ok(answer, `${method}: no answer, but ${JSON.stringify(connection.text)}`)
        return answer
      } finally {
        connection.destroy()
      }
    },
    async counts() {
      const { body } = await unixRequest(daemon.socket, '/cvmd/kms')
      const { requests } = JSON.parse(body) as { requests: readonly RequestCount[] }
      return new Map(
        requests.map(({ method, outcome, reason, count }) => [
          `${method} ${outcome} ${reason}`.trimEnd(),
          count,
        ]),
      )
    },
  }
}

/** Machines of the maker of the one that a daemon simulates. */
export async function machinesBeside({ folder }: KmsDaemon): Promise<Cloud> {
  const simulate = join(folder, 'state', 'simulate')
  const never = () => assert.fail(`no keys in ${simulate}`)
  const pki = await keepIdentities(simulate, 'tdx-keys.pem', TDX_SUBJECTS, never)
  return cloud(Date.now(), pki as ReturnType<typeof createTdxPki>)
}

function materialIn(folder: string): RootMaterial {
  return readRootFiles(
    new Map(ROOT_FILES.map(({ name }) => [name, new Uint8Array(readFileSync(join(folder, name)))])),
  )
}

/** A request as it goes over the wire; objects as JSON. */
export function post(method: string, body: Body = {}, head = ''): Buffer {
  const bytes =
    typeof body === 'string' || body instanceof Uint8Array
      ? Buffer.from(body)
      : Buffer.from(JSON.stringify(body))
  const lines = `POST /prpc/${method} HTTP/1.1\r\nHost: kms.example\r\n${head}`
  return Buffer.concat([Buffer.from(`${lines}Content-Length: ${bytes.length}\r\n\r\n`), bytes])
}
