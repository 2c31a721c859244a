import { ApiError } from '../errors.ts'
import type { Exchange } from './exchange.ts'

/**
 * Keeps other sites' pages out: a browser must not be able to drive cvmd with a form, an image or
 * a name that was rebound to this address.
 *
 * - `hosts`, where given, is the list of names a request may be addressed to (DNS rebinding).
 * - A state-changing request that names another site in `Origin` or `Sec-Fetch-Site`, or in
 *   `Referer` where it has neither, is refused. Programs send none of the three.
 *
 * @throws {ApiError} 400 `HOST_MISSING`, 421 `HOST_UNKNOWN` or 403 `CROSS_SITE`.
 */
export function assertSameSite(
  exchange: Exchange,
  method: string,
  hosts: ReadonlySet<string> | undefined,
): void {
  if (hosts) assertHost(exchange.header('host'), hosts)
  if (method === 'GET' || method === 'HEAD') return
  const site = exchange.header('sec-fetch-site')
  if (site !== undefined && site !== 'same-origin' && site !== 'none') throw crossSite(site)
  const from = exchange.header('origin') ?? exchange.header('referer')
  if (from !== undefined && hostOf(from) !== exchange.header('host')) throw crossSite(from)
}

function assertHost(host: string | undefined, hosts: ReadonlySet<string>): void {
  if (host === undefined || host === '') {
    throw new ApiError(400, 'HOST_MISSING', 'Cannot serve a request without a Host header')
  }
  if (hosts.has(host)) return
  const name = host.replace(/:\d*$/, '').toLowerCase()
  if (hosts.has(name)) return
  throw new ApiError(
    421,
    'HOST_UNKNOWN',
    `Cannot serve host "${host}" here: add it to the listener's "hosts" if it is meant`,
  )
}

function hostOf(url: string): string | undefined {
  return URL.canParse(url) ? new URL(url).host : undefined
}

function crossSite(from: string): ApiError {
  return new ApiError(403, 'CROSS_SITE', `Refused a request that a page of "${from}" caused`)
}
