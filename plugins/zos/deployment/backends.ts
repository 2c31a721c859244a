import { isLoopback, parseAddress } from '../json/ip.ts'
import { GoUrlError, parseGoUrl } from './go-url.ts'

const MAX_PORT = 65_535n
const MAX_U64 = 0xffff_ffff_ffff_ffffn

/**
 * What is wrong with a gateway's backend: `ip:port` with TLS passed through, else
 * `http://ip[:port]` with an address that is not loopback (spec zos §4.5).
 *
 * @returns Undefined when nothing is.
 */
export function checkBackend(backend: string, tlsPassthrough: boolean): string | undefined {
  if (tlsPassthrough) {
    const wrong = wrongIpPort(backend)
    return wrong && `failed to parse backend ${backend} with error: ${wrong}`
  }
  try {
    const { scheme, hostname } = parseGoUrl(backend)
    if (scheme !== 'http') return 'scheme expected to be http'
    const address = parseAddress(hostname)
    if (address === undefined || isLoopback(address)) {
      return `invalid ip address in backend: ${hostname}`
    }
    return undefined
  } catch (error) {
    if (!(error instanceof GoUrlError)) throw error
    return `failed to parse backend with error: parse ${JSON.stringify(backend)}: ${error.message}`
  }
}

/**
 * Where a backend is dialled: `ip:port`, IPv6 in brackets, port 80 when a URL says none.
 *
 * @returns Undefined for what is neither form.
 */
export function backendAddress(backend: string): string | undefined {
  if (wrongIpPort(backend) === undefined) return backend
  try {
    const { host, hostname, port } = parseGoUrl(backend)
    if (hostname === '') return undefined
    return port === '' ? `${host.replace(/:$/, '')}:80` : host
  } catch (error) {
    if (error instanceof GoUrlError) return undefined
    throw error
  }
}

function wrongIpPort(text: string): string | undefined {
  const split = splitHostPort(text)
  if (typeof split === 'string') {
    return `failed to parse backend ${text} with error: address ${text}: ${split}`
  }
  const { host, port } = split
  if (parseAddress(host) === undefined) return 'invalid ip'
  if (!/^\d{1,40}$/.test(port) || BigInt(port) > MAX_U64) return `invalid port in backend: ${port}`
  return BigInt(port) > MAX_PORT ? `port '${port}' must be <= 65535` : undefined
}

/** As Go's `net.SplitHostPort`, with what is wrong as a text. */
function splitHostPort(text: string): string | { readonly host: string; readonly port: string } {
  const colon = text.lastIndexOf(':')
  if (colon < 0) return 'missing port in address'
  const port = text.slice(colon + 1)
  if (!text.startsWith('[')) {
    const host = text.slice(0, colon)
    if (host.includes(':')) return 'too many colons in address'
    return /[[\]]/.test(text)
      ? `unexpected '${/[[\]]/.exec(text)?.[0]}' in address`
      : { host, port }
  }
  const end = text.indexOf(']')
  if (end < 0) return "missing ']' in address"
  if (end + 1 === text.length) return 'missing port in address'
  if (end + 1 !== colon) {
    return text[end + 1] === ':' ? 'too many colons in address' : 'missing port in address'
  }
  const host = text.slice(1, end)
  if (host.includes('[')) return "unexpected '[' in address"
  return port.includes(']') ? "unexpected ']' in address" : { host, port }
}
