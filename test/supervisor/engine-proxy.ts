import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http'

/** A call to the engine, `POST /containers/create?name=x`: without the version. */
export type EngineCall = string

/** Between a daemon and its engine: sees every call, and can keep an answer back. */
export interface EngineProxy {
  readonly socketPath: string
  /** Everything that was asked, in order. */
  readonly calls: EngineCall[]
  /** Calls that change something. */
  writes(): EngineCall[]
  /**
   * Fulfils when the engine has done a call that is so, and keeps its answer back until
   * {@link release}. With `before` the engine does not even hear of it.
   */
  hold(isIt: (call: EngineCall) => boolean, when?: 'before' | 'after'): Promise<EngineCall>
  /** Fulfils when the daemon calls so; the engine hears of it when what is given is called. */
  pause(isIt: (call: EngineCall) => boolean): Promise<() => void>
  /** Ends the connections that are held, and holds nothing more. */
  release(): void
}

interface Held {
  readonly isIt: (call: EngineCall) => boolean
  readonly when: 'before' | 'after'
  readonly reached: (call: EngineCall) => void
}

interface Paused {
  readonly isIt: (call: EngineCall) => boolean
  readonly reached: (goOn: () => void) => void
}

export const isWrite = (call: EngineCall): boolean => !call.startsWith('GET ')

/** @param socketPath Where it listens. */
export async function engineProxy(
  t: { after(end: () => void): void },
  engineSocket: string,
  socketPath: string,
): Promise<EngineProxy> {
  const calls: EngineCall[] = []
  const kept = new Set<ServerResponse>()
  let held: Held | undefined
  let paused: Paused | undefined

  /** Whether the call ends here. */
  const holds = (when: Held['when'], call: EngineCall, response: ServerResponse): boolean => {
    if (held === undefined || held.when !== when || !held.isIt(call)) return false
    const { reached } = held
    held = undefined
    kept.add(response)
    reached(call)
    return true
  }

  const server = createServer(async (incoming: IncomingMessage, response: ServerResponse) => {
    const path = (incoming.url ?? '').replace(/^\/v[\d.]+/, '')
    const call = `${incoming.method} ${path}`
    calls.push(call)
    response.on('error', () => {})
    if (holds('before', call, response)) return
    if (paused?.isIt(call)) {
      const { reached } = paused
      paused = undefined
      await new Promise<void>((goOn) => reached(goOn))
    }
    const outgoing = httpRequest(
      {
        socketPath: engineSocket,
        method: incoming.method,
        path: incoming.url,
        headers: { ...incoming.headers, connection: 'close' },
        agent: false,
      },
      (answer) => {
        answer.on('error', () => response.destroy())
        if (holds('after', call, response)) return void answer.resume()
        response.writeHead(answer.statusCode ?? 500, answer.headers)
        response.flushHeaders()
        answer.pipe(response)
      },
    )
    outgoing.on('error', () => response.destroy())
    response.on('close', () => outgoing.destroy())
    incoming.pipe(outgoing)
  })
  await new Promise<void>((done) => server.listen(socketPath, done))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })

  return {
    socketPath,
    calls,
    writes: () => calls.filter(isWrite),
    hold: (isIt, when = 'after') =>
      new Promise((reached) => {
        held = { isIt, when, reached }
      }),
    pause: (isIt) =>
      new Promise((reached) => {
        paused = { isIt, reached }
      }),
    release: () => {
      held = undefined
      for (const response of kept) response.destroy()
      kept.clear()
    },
  }
}
