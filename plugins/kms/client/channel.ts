import { isIP } from 'node:net'
import { connect, type PeerCertificate, type TLSSocket } from 'node:tls'
import { errnoOf } from '../../../src/errors.ts'
import type { PemPair } from '../../../src/tls/self-signed.ts'
import { KmsError } from './connection.ts'
import type { Endpoint } from './endpoint.ts'
import { type Exchange, exchangeOn } from './exchange.ts'
import { notVerified } from './server-identity.ts'

/** A TLS connection to whoever answers at the endpoint; nothing about him is verified. */
export interface Channel {
  /** The certificates he showed, DER; the first is that of the key he proved to have. */
  readonly shown: readonly [Uint8Array, ...Uint8Array[]]
  /** Sends requests on this connection and no other. */
  readonly ask: Exchange
  /** Whether another request can be made on it, as far as is known. */
  usable(): boolean
  close(): void
}

/** A server's certificate, those of its earlier roots, and the authorities of the first. */
const MAX_SHOWN = 13

/**
 * Opens a connection with TLS 1.3, in which TLS proves that the server has the key of the
 * certificate it shows, and nothing else. Neither its chain nor its name is looked at here: a KMS
 * is known by its root and by the evidence about its key (spec dstack §8), and the name at which it
 * was found says nothing that these do not.
 *
 * @param own The certificate to show, with its key; without, none is shown.
 * @param signal Aborting ends the connection if it is not open yet.
 * @throws {KmsError} `KMS_UNREACHABLE`, or the signal's reason.
 */
export function openChannel(
  endpoint: Endpoint,
  own: PemPair | undefined,
  signal: AbortSignal,
): Promise<Channel> {
  const { url, host, port } = endpoint
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port,
      // RFC 6066 §3: an address is no server name.
      ...(isIP(host) === 0 && { servername: host }),
      ...own,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['http/1.1'],
      rejectUnauthorized: false,
    })
    const fail = (error: unknown) => {
      signal.removeEventListener('abort', onAbort)
      reject(error)
      socket.destroy()
    }
    const onAbort = () => fail(signal.reason)
    const unreachable = (why: string) =>
      fail(new KmsError('KMS_UNREACHABLE', `Cannot connect to KMS ${url}: ${why}`))
    signal.addEventListener('abort', onAbort)
    // Stays for good: an open connection may break off while nobody asks anything.
    socket.on('error', (error: Error) => unreachable(errnoOf(error) ?? 'the connection failed'))
    socket.once('close', () => unreachable('the connection was closed'))
    socket.once('secureConnect', () => {
      signal.removeEventListener('abort', onAbort)
      try {
        resolve(channelOn(socket, endpoint))
      } catch (error) {
        fail(error)
      }
    })
  })
}

function channelOn(socket: TLSSocket, endpoint: Endpoint): Channel {
  const [leaf, ...others] = certificatesOf(socket)
  if (!leaf) throw notVerified(endpoint.url, 'it shows no certificate')
  let over = false
  const ended = () => {
    over = true
  }
  socket.once('end', ended).once('close', ended)
  return {
    shown: [leaf, ...others],
    ask: exchangeOn(socket, endpoint),
    usable: () => !over && !socket.destroyed,
    close: () => socket.destroy(),
  }
}

/** Each with its issuer behind it, as far as there is one. */
function certificatesOf(socket: TLSSocket): Uint8Array[] {
  const found: Uint8Array[] = []
  // The last one is its own issuer, or has none.
  let next: { readonly raw?: Uint8Array; readonly issuerCertificate?: PeerCertificate } | undefined
  next = socket.getPeerCertificate(true)
  while (next?.raw && found.length < MAX_SHOWN) {
    found.push(new Uint8Array(next.raw))
    next = next.issuerCertificate === next ? undefined : next.issuerCertificate
  }
  return found
}
