import { DriverError } from '../driver.ts'
import { isLocalAddress, LOCAL } from './local-address.ts'

/** Where log lines go (spec §4.5). */
export type Output =
  | {
      readonly kind: 'redis'
      readonly host: string
      readonly port: number
      readonly username: string | undefined
      readonly password: string | undefined
      /** What is published to, as it stands in the address. */
      readonly channel: string
      readonly shown: string
    }
  | {
      readonly kind: 'websocket'
      readonly host: string
      readonly port: number
      readonly url: string
      readonly tls: boolean
      readonly shown: string
    }

const REDIS_PORT = 6379
const MAX_LENGTH = 2048

/**
 * Reads `redis://[user][:password@]host[:port]/channel` or `ws[s]://host[:port]/path`, as
 * threefoldtech/tailstream does (`src/output/mod.rs`, 198b153).
 *
 * @param allowLocal Takes addresses of this node too.
 * @throws {DriverError} Never showing what may be a secret in it.
 */
export function readOutput(text: string, allowLocal: boolean): Output {
  const url = text.length <= MAX_LENGTH && URL.canParse(text) ? new URL(text) : undefined
  const scheme = url?.protocol.slice(0, -1)
  if (!url || url.hostname === '') throw refusal('it is no address of a host')
  // Brackets are part of it in a URL, and nowhere else.
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  if (!allowLocal && isLocalAddress(host)) throw refusal(LOCAL)
  if (scheme === 'redis') {
    const channel = url.pathname.replace(/^\/+/, '')
    if (channel === '') throw refusal('channel is missing')
    const port = url.port === '' ? REDIS_PORT : Number(url.port)
    const shown = `redis://${url.hostname}:${port}`
    const [username, password] = [decoded(url.username), decoded(url.password)]
    return { kind: 'redis', host, port, username, password, channel, shown }
  }
  if (scheme === 'ws' || scheme === 'wss') {
    // A fragment never leaves a client; and there is no place for a password in a WebSocket's URL.
    url.hash = ''
    const shown = `${scheme}://${url.host}`
    const tls = scheme === 'wss'
    const port = url.port === '' ? (tls ? 443 : 80) : Number(url.port)
    return { kind: 'websocket', host, port, url: url.href, tls, shown }
  }
  throw refusal('its scheme is none of redis, ws and wss')
}

function refusal(reason: string): DriverError {
  return new DriverError('failed', `cannot send logs to the output: ${reason}`)
}

function decoded(text: string): string | undefined {
  if (text === '') return undefined
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
