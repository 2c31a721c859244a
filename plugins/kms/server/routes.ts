import { type Context, Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import type { z } from 'zod'
import { prpcBody, prpcQuery } from '../../../src/compat/prpc/arguments.ts'
import { hex } from '../../../src/compat/prpc/bytes.ts'
import { prpcError, prpcJson } from '../../../src/compat/prpc.ts'
import { ApiError, errnoOf, toApiError } from '../../../src/errors.ts'
import type { Counter } from '../../../src/metrics.ts'
import { VERSION } from '../../../src/version.ts'
import type { BootInfo } from '../policy/boot-info.ts'
import type { VerifiedEvidence } from '../trust/verified-evidence.ts'
import { getAppKey, getKey, getKmsKey } from './key-methods.ts'
import {
  AppKeyRequest,
  EnvKeyRequest,
  KmsKeyRequest,
  NamedKeyRequest,
  SignCertRequest,
} from './messages.ts'
import { getAppEnvEncryptPubKey, getMeta, getTempCaCert, type Kms } from './public-methods.ts'
import type { RequestEvents } from './request-events.ts'
import { signCert } from './sign-cert.ts'

/** What the routes need beside the KMS itself. */
export interface KmsRouteParts {
  readonly kms: Kms
  /** Counts calls by method, outcome and, of what was refused, the reason. */
  readonly requests: Counter
  /** Told of what went wrong, for the log; callers see less. */
  readonly onRefused: (method: string, error: ApiError) => void
  /** Told of keys and certificates that were given away. */
  readonly onReleased?: RequestEvents['released']
}

/** What the listener knows of a connection. */
export interface KmsEnv {
  Bindings: {
    /** @throws {ApiError} As `verifyPeer`. */
    readonly peer: () => Promise<VerifiedEvidence>
    /**
     * Pays for work that anybody may cause and that no evidence of the connection answers for.
     *
     * @throws {ApiError} 429 `RATE_LIMITED`.
     */
    readonly spend: () => void
  }
}

/** As the readers of arguments allow; evidence with a whole event log, in hex, stays below. */
const MAX_BODY_BYTES = 1024 * 1024

/** Requests by HTTP (spec dstack §4, §9.1): `/prpc/KMS.GetMeta`, `/prpc/GetMeta`, …, `/health`. */
export function kmsRoutes(parts: KmsRouteParts): Hono<KmsEnv> {
  const { kms, requests, onRefused } = parts
  const app = new Hono<KmsEnv>()

  app.use(async (c, next) => {
    await next()
    c.header('x-app-version', `v${VERSION}`)
    // What is in between may not keep it: most answers are secret.
    c.header('cache-control', 'no-store')
  })
  app.use(bodyLimit({ maxSize: MAX_BODY_BYTES, onError: tooLarge }))
  app.onError((error, c) => prpcError(toApiError(error), c))
  app.notFound((c) => prpcError(new ApiError(404, 'ROUTE_NOT_FOUND', 'No such path'), c))
  app.get('/health', (c) => c.text('OK'))

  async function counted(name: string, answer: () => Promise<Response>): Promise<Response> {
    try {
      const response = await answer()
      requests.inc({ method: name, outcome: 'answered', reason: '' })
      return response
    } catch (thrown) {
      const error = toApiError(thrown)
      requests.inc({ method: name, outcome: error.code, reason: errnoOf(error.cause) ?? '' })
      onRefused(name, error)
      throw error
    }
  }

  /** A method without arguments, which never looks at a body (spec dstack §4). */
  function plain(name: string, answer: (c: Context<KmsEnv>) => Promise<object>): void {
    app.on(['GET', 'POST'], pathsOf(name), (c) =>
      counted(name, async () => prpcJson(await answer(c))),
    )
  }

  function method<Request extends z.ZodObject>(
    names: readonly [string, ...string[]],
    request: Request,
    answer: (args: z.output<Request>, c: Context<KmsEnv>) => Promise<Response>,
  ): void {
    const call = (args: unknown, c: Context<KmsEnv>) =>
      counted(names[0], () => answer(args as z.output<Request>, c))
    for (const path of names.flatMap(pathsOf)) {
      app.get(path, prpcQuery(request), (c) => call(c.req.valid('query'), c))
      app.post(path, prpcBody(request), (c) => call(c.req.valid('json'), c))
    }
  }

  /** Answers a peer whose evidence was verified. */
  async function toPeer(
    name: string,
    c: Context<KmsEnv>,
    answer: (boot: BootInfo) => Promise<Response>,
    version?: number,
  ): Promise<Response> {
    const { boot } = await c.env.peer()
    const response = await answer(boot)
    released(name, boot, version)
    return response
  }

  /** Who has not gone on to the version in use is told apart. */
  function released(name: string, to: BootInfo, version: number | undefined): void {
    const isOther = version !== kms.roots.current.root.version
    parts.onReleased?.(name, to, isOther ? version : undefined)
  }

  const signal = (c: Context<KmsEnv>) => c.req.raw.signal

  plain('GetMeta', (c) => getMeta(kms, signal(c)))
  plain('GetTempCaCert', (c) => getTempCaCert(kms, signal(c)))
  method(['GetAppEnvEncryptPubKey'], EnvKeyRequest, async (args, c) => {
    // Anybody may ask it for any application, and each costs as much as evidence.
    c.env.spend()
    return prpcJson(await getAppEnvEncryptPubKey(kms, args, signal(c)))
  })
  method(['GetAppKey'], AppKeyRequest, (args, c) =>
    toPeer(
      'GetAppKey',
      c,
      async (boot) => prpcJson(await getAppKey(kms, boot, args, signal(c))),
      args.root_version,
    ),
  )
  method(['GetKmsKey'], KmsKeyRequest, (_, c) =>
    toPeer('GetKmsKey', c, async (boot) => prpcJson(await getKmsKey(kms, boot, signal(c)))),
  )
  method(['SignCert'], SignCertRequest, async (args, c) => {
    c.env.spend()
    const onSigned = (to: BootInfo) => released('SignCert', to, args.root_version)
    return prpcJson(await signCert(kms, args, signal(c), onSigned))
  })
  method(['GetKey', 'getKey'], NamedKeyRequest, (args, c) =>
    toPeer(
      'GetKey',
      c,
      async (boot) => {
        const key = await getKey(kms, boot, args, signal(c))
        const response = wantsJson(c) ? prpcJson({ key: hex(key) }) : rawKey(key)
        key.fill(0)
        return response
      },
      args.root_version,
    ),
  )
  return app
}

const pathsOf = (name: string): string[] => [`/prpc/KMS.${name}`, `/prpc/${name}`]

function tooLarge(): never {
  throw new ApiError(413, 'BODY_TOO_LARGE', 'payload too large', {
    headers: { connection: 'close' },
  })
}

/** As `?json`, `?json=1` or `?json=true`. */
function wantsJson(c: Context<KmsEnv>): boolean {
  return ['', '1', 'true'].includes(c.req.query('json') ?? 'no')
}

function rawKey(key: Uint8Array): Response {
  return new Response(new Uint8Array(key), {
    headers: {
      'content-type': 'application/octet-stream',
      'content-length': String(key.length),
    },
  })
}
