import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import * as v from 'valibot'
import zos from '../../plugins/zos/index.ts'
import type { AnyPlugin, Services } from '../../src/plugin.ts'
import { unixRequest } from './daemon.ts'
import { serveTest, type TestServer } from './http-server.ts'

/** What a test sees of an answer. */
export interface Answer {
  readonly status: number
  readonly type: string
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: string
}

export interface Sent {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

/** The plugin on a real socket, without an engine or anything else of this host. */
export interface ServedZos {
  readonly server: TestServer
  /** Of the registry document, which may not be there. */
  readonly registry: string
  send(path: string, sent?: Sent): Promise<Answer>
  /** `POST /zos/<command>`. */
  post(command: string, body?: Sent['body'], headers?: Sent['headers']): Promise<Answer>
}

export interface ServeOptions {
  /** Of `[plugins.zos]`. */
  readonly config?: Readonly<Record<string, unknown>>
  readonly listen?: Parameters<typeof serveTest>[1]
  readonly unix?: boolean
  /** Text of the registry document to begin with. */
  readonly document?: string
  readonly services?: Partial<Services>
}

/** Nothing of this host is used: only files are made. */
export const HERMETIC = {
  engine_socket: '/nonexistent/engine.sock',
  mount_disks: 'folder',
  drivers: { zmachine: 'off', network: 'off', gateway: 'off', zlogs: 'off' },
}

export async function serveZos(t: TestContext, options: ServeOptions = {}): Promise<ServedZos> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-zos-http-'))
  const registry = join(folder, 'registry.json')
  if (options.document !== undefined) writeFileSync(registry, options.document)
  const values = { ...HERMETIC, registry, ...options.config }
  if (values.registry === undefined) delete (values as { registry?: string }).registry
  const { unix = false, listen = {}, services = {} } = options
  const server = await serveTest([configured(zos, values)], listen, { unix, services })
  t.after(async () => {
    await server.stop()
    rmSync(folder, { recursive: true, force: true })
  })
  const send = async (path: string, sent: Sent = {}): Promise<Answer> => {
    const { method = 'GET', headers = {}, body } = sent
    if ('unix' in server.target) {
      const text = typeof body === 'string' ? body : undefined
      const answer = await unixRequest(server.target.unix, path, {
        method,
        headers: { ...headers },
        ...(text !== undefined && { body: text }),
      })
      return { ...answer, type: String(answer.headers['content-type']) }
    }
    const answer = await fetch(`http://127.0.0.1:${server.listener.port}${path}`, {
      method,
      headers: { ...headers },
      ...(body !== undefined && { body: body as string }),
      signal: AbortSignal.timeout(30_000),
    })
    return {
      status: answer.status,
      type: answer.headers.get('content-type') ?? '',
      headers: Object.fromEntries(answer.headers),
      body: await answer.text(),
    }
  }
  return {
    server,
    registry,
    send,
    post: (command, body, headers) =>
      send(`/zos/${command}`, {
        method: 'POST',
        ...(body !== undefined && { body }),
        ...(headers && { headers }),
      }),
  }
}

/** A plugin whose table says this. */
function configured(plugin: AnyPlugin, values: object): AnyPlugin {
  const config = v.pipe(
    v.unknown(),
    v.transform(() => v.parse(plugin.config, values)),
  )
  return { ...plugin, config } as AnyPlugin
}

/** Text of a file; undefined when it is not there. */
export function textOf(path: string): string | undefined {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined
}

/** The error in the dialect of `/zos/…`. */
export function errorOf({ status, type, body }: Answer): string {
  const { error } = JSON.parse(body) as { error?: { code: number; message: string } }
  if (type !== 'application/json' || !error) return `${status} ${type} ${body}`
  return `${status} ${error.code} ${error.message}`
}
