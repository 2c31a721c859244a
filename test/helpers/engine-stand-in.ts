import { rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { freshFolder } from './daemon.ts'

/** A request as it came over the socket. */
export interface StandInRequest {
  readonly line: string
  /** Line and headers, as they were sent. */
  readonly head: string
  readonly body: string
}

/** Writes whatever it wants to the connection. */
export type StandInAnswer = (socket: Socket, request: StandInRequest) => void

/** Something on a Unix socket that is asked like an engine, and answers as the test says. */
export interface StandIn {
  readonly socketPath: string
  /** What was asked, `/_ping` included. */
  readonly requests: StandInRequest[]
  /** Fulfils when no connection is open. */
  quiet(): Promise<void>
  /** Fulfils when a request line contains this text. */
  asked(part: string): Promise<void>
  /** Fulfils when a connection whose request line contains this text has ended. */
  ended(part: string): Promise<void>
  listen(): Promise<void>
  close(): Promise<void>
}

export interface StandInOptions {
  /** What `/_ping` says, as whole answer. Default: version 1.41. */
  readonly ping?: StandInAnswer
  /** Whether it listens from the beginning. Default: true. */
  readonly listening?: boolean
}

/** @param answer For every request but `/_ping`. */
export async function standIn(
  t: TestContext,
  answer: StandInAnswer,
  options: StandInOptions = {},
): Promise<StandIn> {
  const { ping = text(200, 'OK', { 'api-version': '1.41' }), listening = true } = options
  const folder = freshFolder()
  const socketPath = join(folder, 'engine.sock')
  const requests: StandInRequest[] = []
  const sockets = new Map<Socket, StandInRequest | undefined>()
  const waiting = new Set<() => void>()
  const endings: StandInRequest[] = []
  let server: Server | undefined

  const serve = (socket: Socket) => {
    sockets.set(socket, undefined)
    socket.on('error', () => {})
    let received = ''
    socket.on('data', (data) => {
      received += data.toString('latin1')
      const end = received.indexOf('\r\n\r\n')
      if (end === -1 || sockets.get(socket)) return
      const head = received.slice(0, end)
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0)
      if (received.length < end + 4 + length) return
      const [line = ''] = head.split('\r\n')
      const request = { line, head, body: received.slice(end + 4, end + 4 + length) }
      requests.push(request)
      sockets.set(socket, request)
      for (const wake of waiting) wake()
      const pinged = line.startsWith('GET /_ping ')
      ;(pinged ? ping : answer)(socket, request)
    })
    socket.on('close', () => {
      const request = sockets.get(socket)
      sockets.delete(socket)
      if (request) endings.push(request)
      for (const wake of waiting) wake()
    })
  }

  const until = async (happened: () => boolean) => {
    while (!happened()) {
      await new Promise<void>((woken) => {
        const wake = () => {
          waiting.delete(wake)
          woken()
        }
        waiting.add(wake)
      })
    }
  }

  const stand: StandIn = {
    socketPath,
    requests,
    quiet: () => until(() => sockets.size === 0),
    asked: (part) => until(() => requests.some(({ line }) => line.includes(part))),
    ended: (part) => until(() => endings.some(({ line }) => line.includes(part))),
    async listen() {
      const made = createServer(serve)
      server = made
      await new Promise<void>((done) => made.listen(socketPath, done))
    },
    async close() {
      const closing = server
      server = undefined
      for (const socket of sockets.keys()) socket.destroy()
      if (closing) await new Promise<void>((done) => closing.close(() => done()))
    },
  }
  if (listening) await stand.listen()
  t.after(async () => {
    await stand.close()
    rmSync(folder, { recursive: true, force: true })
  })
  return stand
}

/** A whole answer, after which the connection ends. */
export function text(
  status: number,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): StandInAnswer {
  const length = { 'content-length': String(Buffer.byteLength(body)), connection: 'close' }
  const lines = Object.entries({ ...length, ...headers }).map(
    ([name, value]) => `${name}: ${value}`,
  )
  return (socket) =>
    void socket.end(`HTTP/1.1 ${status} Status\r\n${lines.join('\r\n')}\r\n\r\n${body}`)
}

export function json(status: number, body: unknown): StandInAnswer {
  return text(status, JSON.stringify(body), { 'content-type': 'application/json' })
}

/** Begins an answer of unknown length; what is written next is its body. */
export function begin(socket: Socket, status = 200): void {
  socket.write(`HTTP/1.1 ${status} Status\r\nconnection: close\r\n\r\n`)
}
