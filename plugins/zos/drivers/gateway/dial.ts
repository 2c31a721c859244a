import { connect, type Socket } from 'node:net'
import { messageOf } from '../../../../src/errors.ts'
import { type Guard, selfProblem } from '../guard.ts'
import { addressText, type GatewayRoute } from './route.ts'

export interface DialOptions {
  readonly connectTimeoutMs: number
  readonly guard: Guard
  /** Whether the backend may say that it is done and go on listening; HTTP's is gone then. */
  readonly halfOpen: boolean
}

/**
 * Connects to a backend.
 *
 * @throws {Error} When it may not be connected to, does not accept, or takes too long.
 */
export function dial(
  { backend, own }: Pick<GatewayRoute, 'backend' | 'own'>,
  options: DialOptions,
): Promise<Socket> {
  const { connectTimeoutMs, guard, halfOpen } = options
  return new Promise((resolve, reject) => {
    const problem = guard(backend.host, own)
    if (problem !== undefined) return reject(new Error(problem))
    const { host, port } = backend
    const socket = connect({ host, port, allowHalfOpen: halfOpen, keepAlive: true })
    const fail = (error: Error) => {
      clearTimeout(late)
      socket.destroy()
      reject(error)
    }
    const late = setTimeout(
      () => fail(new Error(`${addressText(backend)} did not answer in ${connectTimeoutMs} ms`)),
      connectTimeoutMs,
    )
    const refused = (error: Error) => fail(new Error(messageOf(error), { cause: error }))
    socket.once('error', refused)
    socket.once('connect', () => {
      clearTimeout(late)
      socket.off('error', refused)
      const self = selfProblem(socket, guard)
      if (self !== undefined) return fail(new Error(self))
      socket.on('error', () => socket.destroy())
      resolve(socket)
    })
  })
}

/**
 * Passes on what comes in both directions, as fast as the slower side takes it, also when one side
 * has nothing more to say; ends with both, or when nothing moves for too long.
 */
export function splice(a: Socket, b: Socket, idleMs: number): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.setTimeout(idleMs, () => {
      // The other direction may be moving.
      a.destroy()
      b.destroy()
    })
    from.on('close', () => to.destroySoon())
    from.pipe(to)
  }
  a.resume()
  b.resume()
}
