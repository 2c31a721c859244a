import { lookup } from 'node:dns/promises'
import type { IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { BlockList, isIP } from 'node:net'
import { errnoOf } from '../../../../src/errors.ts'
import { DriverError } from '../driver.ts'

export interface DownloadOptions {
  /** PEM: who may have signed a server's certificate, in place of the system's authorities. */
  readonly ca?: string | undefined
  /**
   * Whether images may come from addresses that are not public: this node itself, its neighbours.
   * Default: no, or a twin would see what only the node may ask.
   */
  readonly privateHosts?: boolean | undefined
}

const MAX_REDIRECTS = 5
/** Longest silence. */
const IDLE_MS = 30_000
/** For the whole of it: a server that trickles is given up. */
const TOTAL_MS = 3_600_000
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

/**
 * The bytes of an image, as fast as they are taken.
 *
 * @param most Bytes, above which it is refused by what the server says of it.
 * @throws {DriverError} `failed` for what will not change by itself, otherwise `transient`.
 */
export async function* download(
  url: URL,
  most: bigint,
  options: DownloadOptions,
  task: { progress(text: string): void; readonly signal: AbortSignal },
): AsyncGenerator<Uint8Array> {
  const signal = AbortSignal.any([task.signal, AbortSignal.timeout(TOTAL_MS)])
  const what = `Cannot download image "${url.origin}${url.pathname}"`.slice(0, 300)
  try {
    const response = await follow(url, what, options, signal)
    const length = Number(response.headers['content-length'] ?? Number.NaN)
    if (BigInt(Number.isSafeInteger(length) ? length : 0) > most) {
      response.destroy()
      throw new DriverError(
        'failed',
        `${what}: it has ${length} bytes, above the root disk's ${most}, ask for a larger size`,
      )
    }
    yield* body(response, length, task)
  } catch (error) {
    task.signal.throwIfAborted()
    if (error instanceof DriverError) throw error
    const why = signal.aborted ? 'it takes too long' : (errnoOf(error) ?? 'the connection failed')
    throw new DriverError('transient', `${what}: ${why}`)
  }
}

async function* body(
  response: IncomingMessage,
  length: number,
  task: { progress(text: string): void },
): AsyncGenerator<Uint8Array> {
  let total = 0
  // Without a length there is nothing to tell.
  let told = -10
  try {
    for await (const chunk of response) {
      yield chunk as Uint8Array
      total += (chunk as Uint8Array).length
      const percent = Math.min(100, Math.floor((total / length) * 100))
      // Each is shown to somebody, and may be written down.
      if (!(percent >= told + 10)) continue
      told = percent
      task.progress(`downloading ${percent} %`)
    }
  } finally {
    response.destroy()
  }
  const whole = response.complete && (Number.isNaN(length) || total === length)
  if (!whole) throw new Error('cut short')
}

async function follow(
  first: URL,
  what: string,
  options: DownloadOptions,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  let url = first
  for (let step = 0; step <= MAX_REDIRECTS; step++) {
    const response = await ask(url, await addressOf(url, what, options), options, signal)
    const { statusCode: status = 0, headers } = response
    if (status === 200) return response
    response.destroy()
    if (!REDIRECTS.has(status) || headers.location === undefined) {
      const kind = status >= 500 || status === 429 || status === 408 ? 'transient' : 'failed'
      throw new DriverError(kind, `${what}: the server answers ${status}`)
    }
    if (!URL.canParse(headers.location, url.href))
      throw new DriverError('failed', `${what}: the server leads nowhere`)
    url = new URL(headers.location, url)
    if (url.protocol !== 'https:')
      throw new DriverError('failed', `${what}: the server leads away from https`)
  }
  throw new DriverError('failed', `${what}: the server leads on more than ${MAX_REDIRECTS} times`)
}

/** The connection goes to the address that was looked at, not to what a second look would give. */
async function addressOf(url: URL, what: string, options: DownloadOptions): Promise<string> {
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const address = isIP(host) ? host : (await lookup(host)).address
  if (options.privateHosts !== true && isPrivate(address)) {
    throw new DriverError('failed', `${what}: "${host}" is not a public address`)
  }
  return address
}

function ask(
  url: URL,
  address: string,
  { ca }: DownloadOptions,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted()
    const name = url.hostname.replace(/^\[|\]$/g, '')
    const request = httpsRequest({
      host: address,
      port: url.port === '' ? 443 : Number(url.port),
      path: `${url.pathname}${url.search}`,
      headers: { host: url.host, accept: 'application/octet-stream', 'user-agent': 'cvmd' },
      agent: false,
      // An address is checked against the certificate as such.
      ...(isIP(name) === 0 && { servername: name }),
      ...(ca !== undefined && { ca }),
    })
    const aborted = () => request.destroy(signal.reason)
    signal.addEventListener('abort', aborted)
    request.setTimeout(IDLE_MS, () => request.destroy(new Error('silent')))
    request.on('error', reject)
    request.on('close', () => signal.removeEventListener('abort', aborted))
    request.on('response', resolve)
    request.end()
  })
}

/** Networks that are not the public internet (IANA special-purpose registries). */
const PRIVATE = [
  '0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24',
  '192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24',
  '224.0.0.0/3 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32',
  '2002::/16 200::/7 400::/7 fc00::/7 fe80::/10 ff00::/8',
]

/** Whether an address is not of the public internet; so is one that cannot be read. */
export function isPrivate(address: string): boolean {
  const family = isIP(address)
  // `::`, `::1`, and IPv4 in the clothes of IPv6.
  if (family === 0 || address.startsWith('::')) return true
  const list = new BlockList()
  for (const network of PRIVATE.flatMap((line) => line.split(' '))) {
    const [base = '', prefix = ''] = network.split('/')
    list.addSubnet(base, Number(prefix), base.includes(':') ? 'ipv6' : 'ipv4')
  }
  return list.check(address, family === 6 ? 'ipv6' : 'ipv4')
}
