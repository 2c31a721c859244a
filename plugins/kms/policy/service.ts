import { clearTimeout, setTimeout } from 'node:timers'
import type * as v from 'valibot'
import type { Secret } from '../../../src/config/secret.ts'
import { messageOf } from '../../../src/errors.ts'
import { readPem } from '../../../src/x509/pem.ts'
import { exchange } from './exchange.ts'
import { parseJson } from './json.ts'
import { PolicyError, quoted } from './policy.ts'
import { readConfigured } from './read-file.ts'

/** A service that is asked over HTTP, and how to be sure that it is the right one. */
export interface Service {
  /** What errors call it. The URL of a node may be secret from its path on, and is not told. */
  readonly kind: 'auth api' | 'chain node'
  /** `http:` or `https:`, without credentials. */
  readonly url: string
  /** Of a chain node: the rest of the URL, where that is a secret as with hosted ones. */
  readonly secretPath?: Secret | undefined
  readonly token?: Secret | undefined
  /** PEM of the authorities that may have signed its certificate; default: the system's. */
  readonly caFile?: string | undefined
  /** For a whole decision, however many requests it takes. */
  readonly deadlineMs: number
}

/** Asks for JSON of the given shape: a POST with a body, a GET without one. */
export type Ask = <Schema extends v.GenericSchema>(
  schema: Schema,
  path: string,
  body?: object,
) => Promise<v.InferOutput<Schema>>

const MAX_CA_BYTES = 64 * 1024
const MAX_CA_CERTIFICATES = 16

/**
 * Runs requests to a service that together have to be done in time. Files are read anew, so that
 * tokens and authorities can be replaced while running.
 *
 * @throws {PolicyError} What goes wrong before, while and after asking; none names a secret.
 */
export function asking<T>(
  service: Service,
  signal: AbortSignal | undefined,
  work: (ask: Ask) => Promise<T>,
): Promise<T> {
  return inTime(service.deadlineMs, signal, async (signal) => {
    const ca = service.caFile && (await readAuthorities(service.caFile))
    const token = service.token && readToken(service.token)
    const base = baseOf(service)
    const secrets = [...(token ? [token] : []), ...secretsIn(service, base)]
    return work(async (schema, path, body) => {
      const url = new URL(base)
      if (path !== '') url.pathname = `${url.pathname.replace(/\/$/, '')}/${path}`
      const shown = `${service.kind} ${service.kind === 'auth api' ? url.href : url.origin}`
      const json = body && JSON.stringify(body)
      const answer = await exchange({ url, shown, body: json, token, ca, signal })
      // Before anything of it gets into a reason or an error: services do repeat what they are sent.
      const text = redacted(answer.text, secrets)
      const { status } = answer
      if (status < 200 || status > 299) {
        throw new PolicyError('POLICY_REFUSED', `${shown} returned ${status}: ${quoted(text)}`)
      }
      try {
        return parseJson(schema, text)
      } catch (error) {
        const message = `Cannot read answer of ${shown}: ${messageOf(error)}: ${quoted(text)}`
        throw new PolicyError('POLICY_MALFORMED', message)
      }
    })
  })
}

/** Ends the work, not only the waiting, when its time is up or nobody waits any more. */
async function inTime<T>(
  ms: number,
  outer: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const gone = () => new PolicyError('POLICY_ABORTED', 'Cannot ask policy: nobody waits for it')
  if (outer?.aborted) throw gone()
  const controller = new AbortController()
  const onAbort = () => controller.abort(gone())
  outer?.addEventListener('abort', onAbort)
  const timer = setTimeout(() => {
    const message = `Cannot ask policy: no answer within ${ms} ms`
    controller.abort(new PolicyError('POLICY_TIMEOUT', message))
  }, ms)
  try {
    return await work(controller.signal)
  } finally {
    clearTimeout(timer)
    outer?.removeEventListener('abort', onAbort)
  }
}

function baseOf({ url, secretPath }: Service): URL {
  const base = new URL(url)
  if (secretPath === undefined) return base
  const path = readSecret(secretPath)
  if (!/^[!-~]+$/.test(path)) throw unusable(secretPath, 'it holds no path of a URL')
  // Two slashes, of either kind, would begin with another host.
  return new URL(`/${path.replace(/^[/\\]+/, '')}`, base)
}

function readToken(token: Secret): string {
  const text = readSecret(token)
  if (!/^[!-~]{8,}$/.test(text)) {
    throw unusable(token, 'a token is one word of ASCII with 8 characters or more')
  }
  return text
}

function readSecret(secret: Secret): string {
  try {
    return secret.read()
  } catch (error) {
    throw new PolicyError('POLICY_SETUP', messageOf(error))
  }
}

async function readAuthorities(path: string): Promise<string> {
  const text = new TextDecoder().decode(await readConfigured(path, MAX_CA_BYTES))
  try {
    // Runtimes ignore what they cannot read, and then trust as if no file had been named.
    if (readPem(text, 'CERTIFICATE', MAX_CA_CERTIFICATES).length > 0) return text
  } catch {}
  throw new PolicyError('POLICY_SETUP', `Cannot use "${path}": it holds no certificates in PEM`)
}

const unusable = ({ file }: Secret, why: string): PolicyError =>
  new PolicyError('POLICY_SETUP', `Cannot use "${file}": ${why}`)

/** Parts of a node's URL that may be a key: long steps of the path, and values of the query. */
function secretsIn({ kind }: Service, { pathname, searchParams }: URL): string[] {
  if (kind === 'auth api') return []
  return [...pathname.split('/'), ...searchParams.values()].filter((part) => part.length >= 8)
}

function redacted(text: string, secrets: readonly string[]): string {
  return secrets.reduce((rest, secret) => rest.replaceAll(secret, '[secret]'), text)
}
