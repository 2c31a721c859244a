import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { type WebSocket, WebSocketServer } from 'ws'
import { decodeEnvelope, type Envelope, encodeEnvelope } from '../../plugins/zos/rmb/envelope.ts'
import { isSignedBy } from '../../plugins/zos/rmb/signing.ts'

/** A relay as far as twins see it (spec zos §10.4), for one test. */
export interface TestRelay {
  readonly port: number
  readonly url: string
  /** As twins name it. */
  readonly host: string
  /** `<twin>` or `<twin>:<session>` of those connected. */
  connected(): readonly string[]
  /** Connections that were accepted so far. */
  readonly accepted: number
  /** What went through it, decoded, the newest last. */
  readonly passed: readonly Envelope[]
  /** What it found wrong with tokens and messages. */
  readonly refused: readonly string[]
  /** Sends bytes, or text, to a twin as they are. */
  send(name: string, data: Uint8Array | string): void
  /** Ends a twin's connection without a word. */
  cut(name: string): void
  /** Ends it, all connections too. */
  stop(): Promise<void>
}

/** @param keyOf Public keys of twins; a token by anybody else is refused. */
export async function testRelay(
  t: TestContext,
  keyOf: (twin: number) => Uint8Array | undefined,
  port = 0,
): Promise<TestRelay> {
  const connections = new Map<string, WebSocket>()
  const passed: Envelope[] = []
  const refused: string[] = []
  const server = new WebSocketServer({
    port,
    host: '127.0.0.1',
    verifyClient: async ({ req }: { req: IncomingMessage }, accept: (good: boolean) => void) => {
      const problem = await tokenProblem(req.url ?? '', keyOf)
      if (problem) refused.push(problem)
      accept(problem === undefined)
    },
  })
  await once(server, 'listening')
  let accepted = 0
  server.on('connection', (socket, request) => {
    accepted++
    const { sub, sid } = claimsOf(request.url ?? '')
    const name = sid ? `${sub}:${sid}` : `${sub}`
    connections.get(name)?.close(1000, 'another connection took its place')
    connections.set(name, socket)
    socket.on('error', () => {})
    socket.on('close', () => {
      if (connections.get(name) === socket) connections.delete(name)
    })
    socket.on('message', (data, isBinary) => {
      if (!isBinary) return socket.close(1003)
      const envelope = decodeEnvelope(new Uint8Array(data as Buffer))
      const { source, destination, message } = envelope
      if (nameOf(source) !== name) return refused.push('message wrong source')
      if (message?.kind === 'ping') {
        const payload = { kind: 'plain', bytes: new TextEncoder().encode('hello world') } as const
        const swapped = { source: destination ?? { twin: 0 }, destination: source ?? { twin: 0 } }
        const pong = { ...envelope, ...swapped, message: { kind: 'pong' } as const, payload }
        return socket.send(encodeEnvelope(pong))
      }
      passed.push(envelope)
      const to = connections.get(nameOf(destination))
      if (to) to.send(data)
      else socket.send(encodeEnvelope(relayError(envelope.uid, 'destination offline')))
    })
  })
  const stop = async () => {
    for (const socket of server.clients) socket.terminate()
    await new Promise((closed) => server.close(closed))
  }
  t.after(stop)
  const bound = (server.address() as AddressInfo).port
  return {
    port: bound,
    url: `ws://127.0.0.1:${bound}`,
    host: `127.0.0.1:${bound}`,
    connected: () => [...connections.keys()],
    get accepted() {
      return accepted
    },
    passed,
    refused,
    send: (name, data) => connections.get(name)?.send(data),
    cut: (name) => connections.get(name)?.terminate(),
    stop,
  }
}

/** A relay's own error has neither a source nor a signature. */
export function relayError(uid: string, message: string): Envelope {
  const error = { kind: 'error', code: 0, message } as const
  return { uid, timestamp: 1n, expiration: 1n, message: error, relays: [] }
}

function nameOf(address: Envelope['source']): string {
  return address?.connection ? `${address.twin}:${address.connection}` : `${address?.twin}`
}

function claimsOf(url: string): { sub: number; exp: number; sid?: string } {
  const [, body = ''] = url.slice(url.indexOf('?') + 1).split('.')
  return JSON.parse(Buffer.from(body, 'base64url').toString())
}

async function tokenProblem(
  url: string,
  keyOf: (twin: number) => Uint8Array | undefined,
): Promise<string | undefined> {
  const [head, body, signature = ''] = url.slice(url.indexOf('?') + 1).split('.')
  const { sub, exp } = claimsOf(url)
  const key = keyOf(sub)
  const bytes = new Uint8Array(Buffer.from(signature, 'base64url'))
  const signed = new TextEncoder().encode(`${head}.${body}`)
  if (!key || !(await isSignedBy(key, signed, bytes))) {
    return 'token of nobody'
  }
  return exp * 1000 > Date.now() ? undefined : 'token has expired'
}
