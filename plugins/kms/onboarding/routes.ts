import { type Context, Hono, type MiddlewareHandler } from 'hono'
import type { z } from 'zod'
import { prpcBody, prpcQuery } from '../../../src/compat/prpc/arguments.ts'
import { prpcError, prpcJson } from '../../../src/compat/prpc.ts'
import { ApiError, errnoOf, toApiError } from '../../../src/errors.ts'
import type { Exchange } from '../../../src/http/exchange.ts'
import { requestPath } from '../../../src/http/path.ts'
import type { Counter } from '../../../src/metrics.ts'
import { VERSION } from '../../../src/version.ts'
import type { Admission } from './admission.ts'
import { formFields, wholeBody } from './body.ts'
import { BootstrapRequest, EmptyRequest, OnboardRequest } from './messages.ts'
import { type PageAction, pageResponse } from './page.ts'
import type { Session } from './session.ts'

/** What the routes need beside the set-up itself. */
export interface OnboardingRouteParts {
  readonly session: Session
  readonly admission: Admission
  /** Counts calls by method, outcome and, of what was refused, the reason. */
  readonly requests: Counter
  /** Told of what went wrong, for the log; callers see less. */
  readonly onRefused: (method: string, error: ApiError) => void
}

export interface OnboardingEnv {
  Bindings: Exchange
}

type Handler = MiddlewareHandler<OnboardingEnv>

const METHOD_OF_ACTION: ReadonlyMap<string, string> = new Map<PageAction, string>([
  ['bootstrap', 'Bootstrap'],
  ['join', 'Onboard'],
  ['finish', 'Finish'],
])

/**
 * Requests by plain HTTP (spec dstack §9.5): `/prpc/Onboard.Bootstrap`, `/prpc/Bootstrap`, …,
 * `/finish`, `/health` and a page. What changes something is not asked by GET, which pages of other
 * sites can cause without a trace; `/finish` is, as the seed API has it, and harmless before there
 * are keys.
 */
export function onboardingRoutes({
  session,
  admission,
  requests,
  onRefused,
}: OnboardingRouteParts): Hono<OnboardingEnv> {
  const app = new Hono<OnboardingEnv>({ getPath: requestPath })

  app.use(async (c, next) => {
    await next()
    c.header('x-app-version', `v${VERSION}`)
    c.header('x-content-type-options', 'nosniff')
    c.header('cache-control', 'no-store')
  })
  app.onError((error, c) => prpcError(toApiError(error), c))
  app.get('/health', (c) => c.text('OK'))
  app.get('/', () => pageResponse(view()))
  app.post('/', wholeBody, fromPage)
  app.get('/finish', counted('Finish'), finish)
  app.post('/finish', counted('Finish'), finish)

  method('Bootstrap', BootstrapRequest, ({ domain }, c) => {
    return session.bootstrap(domain, c.req.raw.signal)
  })
  method('Onboard', OnboardRequest, ({ source_url, domain }, c) => {
    return session.join(source_url, domain, c.req.raw.signal)
  })
  method('GetAttestationInfo', EmptyRequest, () => session.info(), 'by GET, too')
  method('Finish', EmptyRequest, () => session.finish().then(() => null))

  app.notFound((c) => {
    admit(c)
    return prpcError(new ApiError(404, 'ROUTE_NOT_FOUND', 'No such path'), c)
  })
  return app

  function method<Request extends z.ZodObject>(
    name: string,
    request: Request,
    answer: (args: z.output<Request>, c: Context<OnboardingEnv>) => Promise<object | null>,
    byGet?: 'by GET, too',
  ): void {
    for (const path of [`/prpc/Onboard.${name}`, `/prpc/${name}`]) {
      const call = async (args: unknown, c: Context<OnboardingEnv>) =>
        prpcJson(await answer(args as z.output<Request>, c))
      app.post(path, counted(name), admitted, wholeBody, prpcBody(request), (c) =>
        call(c.req.valid('json'), c),
      )
      if (byGet) {
        app.get(path, counted(name), admitted, prpcQuery(request), (c) =>
          call(c.req.valid('query'), c),
        )
      } else app.get(path, admitted, postOnly)
    }
  }

  function counted(name: string): Handler {
    return async (c, next) => {
      await next()
      count(name, c.error && toApiError(c.error))
    }
  }

  function count(name: string, error: ApiError | undefined): void {
    const outcome = error?.code ?? 'answered'
    requests.inc({ method: name, outcome, reason: errnoOf(error?.cause) ?? '' })
    if (error) onRefused(name, error)
  }

  function admit(c: Context<OnboardingEnv>): void {
    admission.assertOwnPage(c.env)
    admission.assertBearer(c.env)
  }

  function admitted(c: Context<OnboardingEnv>, next: () => Promise<void>): Promise<void> {
    admit(c)
    return next()
  }

  async function finish(c: Context<OnboardingEnv>): Promise<Response> {
    admit(c)
    // Whoever asks for the head alone means no change.
    if (c.req.method === 'HEAD') throw notAllowed('HEAD', 'GET, POST')
    await session.finish()
    return c.text('OK')
  }

  function view() {
    const { simulated, state, finished } = session
    return { simulated, state, finished, needsToken: admission.needsToken }
  }

  async function fromPage(c: Context<OnboardingEnv>): Promise<Response> {
    let name: string | undefined
    try {
      admission.assertOwnPage(c.env)
      const form = await formFields(c)
      name = METHOD_OF_ACTION.get(form.get('action') ?? '')
      admission.assertToken(c.env, form.get('token') ?? undefined)
      await done(name, form, c.req.raw.signal)
      count(name ?? '', undefined)
      return pageResponse(view())
    } catch (thrown) {
      const error = toApiError(thrown)
      if (name !== undefined) count(name, error)
      // The page has a field for what the header says.
      const { 'www-authenticate': _, ...headers } = error.headers
      const message = error.status === 401 ? 'The token is not the right one.' : error.message
      return pageResponse({ ...view(), error: message }, error.status, headers)
    }
  }

  async function done(
    name: string | undefined,
    form: URLSearchParams,
    signal: AbortSignal,
  ): Promise<void> {
    const field = (of: string) => (form.get(of) ?? '').trim()
    switch (name) {
      case 'Bootstrap':
        await session.bootstrap(field('domain'), signal)
        return
      case 'Onboard':
        await session.join(field('source_url'), field('domain'), signal)
        return
      case 'Finish':
        return session.finish()
      default:
        throw new ApiError(400, 'INVALID_REQUEST', 'Invalid action: no form of this page has it')
    }
  }
}

const postOnly = ({ req }: Context): never => {
  throw notAllowed(req.method, 'POST')
}

function notAllowed(method: string, allow: string): ApiError {
  const message = `Cannot ${method} here: use ${allow.replace(', ', ' or ')}`
  return new ApiError(405, 'METHOD_NOT_ALLOWED', message, { headers: { allow } })
}
