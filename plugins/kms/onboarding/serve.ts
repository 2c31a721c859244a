import { setImmediate } from 'node:timers'
import { Throttle } from '../../../src/auth/throttle.ts'
import { serveNode } from '../../../src/http/serve-node.ts'
import { closing, type HttpLimits } from '../../../src/http/types.ts'
import { NODE_QUIRKS } from '../../../src/runtime.ts'
import { admission } from './admission.ts'
import { type OnboardingRouteParts, onboardingRoutes } from './routes.ts'
import { createSession, type SessionParts } from './session.ts'
import { createOnboardToken } from './token.ts'

/** A KMS without root keys, and where it is set up. */
export interface OnboardingOptions
  extends SessionParts,
    Pick<OnboardingRouteParts, 'requests' | 'onRefused'> {
  /** Empty for every interface. */
  readonly host: string
  /** 0 for any that is free. */
  readonly port: number
  /** The plugin's own folder, for the token. */
  readonly stateDir: string
  /** False: everybody may who reaches the listener, as in the seed API. */
  readonly requireToken: boolean
  /** Without a token: names, beside IP addresses and `localhost`, at which browsers open the page. */
  readonly hosts?: readonly string[] | undefined
  readonly limits?: Partial<HttpLimits> | undefined
}

/** A KMS that is being set up. */
export interface Onboarding {
  readonly port: number
  /** Where the token is; undefined where none is needed. */
  readonly tokenFile: string | undefined
  /** Resolved once somebody has finished the set-up; `close` then waits for his answer. */
  readonly finished: Promise<void>
  /** Accepts no more, lets running requests finish until the deadline, then cuts them. */
  close(deadlineMs: number): Promise<void>
}

/** Idle covers what another KMS may take, as nothing moves here while it is asked. */
const LIMITS: HttpLimits = {
  maxHeadBytes: 16 * 1024,
  headTimeoutMs: 10_000,
  idleTimeoutMs: 120_000,
  maxConnections: 64,
  maxConnectionsPerPeer: 16,
}

/**
 * Serves the set-up of a KMS over plain HTTP, one answer on each connection.
 *
 * By `node:http` on all runtimes: `Bun.serve` has no limit of connections.
 *
 * @throws {Error} The system error when the token cannot be written or the address not be bound.
 */
export async function serveOnboarding(options: OnboardingOptions): Promise<Onboarding> {
  const { host, port, stateDir, requireToken, requests, onRefused } = options
  const token = requireToken ? await createOnboardToken(stateDir) : undefined
  const session = createSession(options)
  const hosts = new Set(options.hosts?.map((name) => name.toLowerCase()))
  const app = onboardingRoutes({
    session,
    admission: admission({ token, hosts, throttle: new Throttle() }),
    requests,
    onRefused,
  })
  let resolveFinished = () => {}
  const finished = new Promise<void>((resolve) => {
    resolveFinished = resolve
  })
  const listener = await serveNode(
    'onboarding',
    { host, port },
    { ...LIMITS, ...options.limits },
    async (request, exchange) => {
      const response = await app.fetch(request, exchange)
      if (session.finished) {
        await token?.remove()
        // After the server has the answer: closing then waits until it is sent.
        setImmediate(resolveFinished)
      }
      return closing(response)
    },
    NODE_QUIRKS,
  ).catch(async (error) => {
    await token?.remove()
    throw error
  })
  return {
    port: listener.port,
    tokenFile: token?.path,
    finished,
    async close(deadlineMs) {
      await listener.close(deadlineMs)
      await token?.remove()
    },
  }
}
