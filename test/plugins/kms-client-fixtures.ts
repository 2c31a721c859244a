import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { Hono } from 'hono'
import {
  type Authority,
  authorityIdentifier,
  DEFAULT_NOT_BEFORE,
  readAuthority,
  TEN_YEARS_MS,
} from '../../plugins/kms/certificates/authority.ts'
import { p256Key } from '../../plugins/kms/certificates/p256-key.ts'
import type { KmsConnectionOptions } from '../../plugins/kms/client/connection.ts'
import { randomP256Scalar } from '../../plugins/kms/derivation/curves.ts'
import type { Policy } from '../../plugins/kms/policy/policy.ts'
import { listenRaTls } from '../../plugins/kms/server/listener.ts'
import { verifyPeer } from '../../plugins/kms/server/peer.ts'
import type { Kms } from '../../plugins/kms/server/public-methods.ts'
import {
  createMaterial,
  type RootMaterial,
  randomRootKeys,
} from '../../plugins/kms/server/root-material.ts'
import { type KmsEnv, kmsRoutes } from '../../plugins/kms/server/routes.ts'
import {
  issueRpcCertificate,
  type RpcCertificate,
} from '../../plugins/kms/server/rpc-certificate.ts'
import type { PemPair } from '../../src/tls/self-signed.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import {
  basicConstraints,
  certificatePem,
  issueCertificate,
  keyUsage,
  subjectKeyIdentifier,
} from '../../src/x509/issue.ts'
import {
  APP_EVENTS,
  attesterOf,
  type Client,
  cloud,
  derOf,
  rootsOf,
  temporaryCaOf,
} from './kms-server-fixtures.ts'

export const { trust, ...machines } = cloud()

/** What a client of these tests, and the KMS, measured of themselves. */
export const SHOP = { ...APP_EVENTS, 'app-id': '01'.repeat(20), 'compose-hash': '01'.repeat(32) }
export const KMS = { ...APP_EVENTS, 'app-id': '04'.repeat(20), 'compose-hash': '04'.repeat(32) }

export const material = createMaterial(randomRootKeys(), 'kms.example', undefined)
export const rootCertificate = rootOfMaterial(material)
export const rpc = await rpcOf(material)

export function rootOfMaterial({ authority }: RootMaterial) {
  return parseCertificate(derOf(authority.chain[0] ?? ''))
}

export function rpcOf(of: RootMaterial): Promise<RpcCertificate> {
  return issueRpcCertificate(of, attesterOf(machines.tdx(KMS)))
}

/** A client's certificate as that of a server. */
export function pairOf(client: Client, ...above: readonly string[]): PemPair {
  return { cert: [client.cert, ...above].join(''), key: client.key.pem }
}

/**
 * An authority below another, of no application.
 *
 * @param validTo Unix time in milliseconds.
 */
export function intermediate(above: Authority, validTo = Date.now() + TEN_YEARS_MS): Authority {
  const { privateKey, publicKey } = p256Key(randomP256Scalar())
  const der = issueCertificate(
    {
      subject: [['CN', 'between']],
      issuer: above.name,
      publicKey,
      validFrom: DEFAULT_NOT_BEFORE,
      validTo,
      extensions: [
        basicConstraints(true, 0),
        keyUsage('keyCertSign'),
        subjectKeyIdentifier(publicKey),
        ...authorityIdentifier(above),
      ],
    },
    above.privateKey,
  )
  return readAuthority([certificatePem(der), ...above.chain].join(''), privateKey)
}

/** What is open, and what is done with it in the end. */
const open: (() => unknown)[] = []
export const closeAll = () => Promise.all(open.splice(0).map((close) => close()))

/** What a server got of its clients, in order. */
export interface Seen {
  readonly port: number
  /** How many connections there were. */
  connections: number
  /** Method, path and body of requests. */
  readonly requests: string[]
  /** DER of certificates. */
  readonly certificates: Uint8Array[]
}

const yes = { allowed: true, gatewayAppId: 'gateway' } as const
const policy: Policy = {
  app: async () => yes,
  kms: async () => yes,
  describe: async () => ({ isDev: false }),
}

/** A real KMS. */
export async function realKms(pair = rpc.pair, of = material): Promise<Relay> {
  const kms: Kms = { roots: rootsOf(of), policy, trust, self: undefined, now: Date.now }
  const requests: string[] = []
  const certificates: Uint8Array[] = []
  const routes = kmsRoutes({ kms, requests: { inc: () => {} }, onRefused: () => undefined })
  const app = new Hono<KmsEnv>().all('*', (c) => {
    const { pathname, search } = new URL(c.req.url)
    requests.push(`${c.req.method} ${pathname}${search}`)
    return routes.fetch(c.req.raw, c.env)
  })
  const listener = await listenRaTls({
    host: '127.0.0.1',
    port: 0,
    pair,
    temporaryCa: of.temporaryCa.certificate,
    app,
    verify: (certificate) => {
      if (certificate) certificates.push(certificate)
      return verifyPeer(certificate, temporaryCaOf(of), trust, Date.now())
    },
  })
  open.push(() => listener.close(100))
  // In front of it, connections can be counted and cut.
  const seen = await relay(() => listener.port)
  return Object.assign(seen, { requests, certificates })
}

/** Where connections can be counted, and cut. */
export interface Relay extends Seen {
  /** Ends all connections that are open now. */
  cut(): void
}

/** A relay that passes connections on to a port each, by their number from 0. */
export async function relay(portOf: (n: number) => number): Promise<Relay> {
  const sockets = new Set<Socket>()
  const track = (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => sockets.delete(socket))
  }
  const server = createServer((socket) => {
    const up = connect(portOf(seen.connections), '127.0.0.1')
    seen.connections += 1
    track(socket)
    track(up)
    socket.pipe(up).pipe(socket)
    socket.on('close', () => up.destroy())
    up.on('close', () => socket.destroy())
  })
  const cut = () => {
    for (const socket of sockets) socket.destroy()
  }
  const seen = {
    port: await listening(server),
    connections: 0,
    requests: [],
    certificates: [],
    cut,
  }
  open.push(() => {
    cut()
    server.close()
  })
  return seen
}

/**
 * A server with a certificate that does what it likes with each request.
 *
 * @param answer Gets the request's path and what to answer on.
 * @returns Beside what it saw, when the first connection has ended, and all was seen of it.
 */
export async function fakeKms(
  pair: PemPair,
  answer: (path: string, socket: TLSSocket, n: number) => void,
  options: { readonly maxVersion?: 'TLSv1.2' } = {},
): Promise<Seen & { readonly over: Promise<void> }> {
  let end = () => {}
  const over = new Promise<void>((resolve) => {
    end = resolve
  })
  const sockets = new Set<Socket>()
  const server = createTlsServer(
    { ...pair, ...options, requestCert: true, rejectUnauthorized: false },
    (socket) => {
      seen.connections += 1
      sockets.add(socket)
      socket.on('error', () => socket.destroy())
      socket.on('close', end)
      const { raw } = socket.getPeerCertificate() ?? {}
      if (raw) seen.certificates.push(new Uint8Array(raw))
      let text = ''
      socket.on('data', (data: Buffer) => {
        text += data.toString('latin1')
        const [, head = '', body = ''] = /^(.*?)\r\n\r\n(.*)$/s.exec(text) ?? []
        const length = Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? Number.NaN)
        if (body.length !== length) return
        text = ''
        const [method, path = ''] = head.split(' ')
        seen.requests.push(`${method} ${path} ${body}`)
        answer(path, socket, seen.requests.length)
      })
    },
  )
  server.on('tlsClientError', (_error, socket) => {
    socket.destroy()
    end()
  })
  const seen = {
    over,
    port: 0,
    connections: 0,
    requests: [] as string[],
    certificates: [] as Uint8Array[],
  }
  seen.port = await listening(server)
  open.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return seen
}

/** A server without TLS. */
export async function plainServer(onConnection: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    onConnection(socket)
  })
  open.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return listening(server)
}

async function listening(server: ReturnType<typeof createServer>): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** An answer as HTTP has it. */
export function httpAnswer(body: string | Uint8Array, status = '200 OK', head = ''): Buffer {
  const bytes = Buffer.from(body)
  const lines = `HTTP/1.1 ${status}\r\n${head}Content-Length: ${bytes.length}\r\n\r\n`
  return Buffer.concat([Buffer.from(lines), bytes])
}

/** What GetTempCaCert answers. */
export const temporary = (of: RootMaterial = material) => ({
  temp_ca_cert: of.temporaryCa.certificate,
  temp_ca_key: of.temporaryCa.key.pem,
  ca_cert: of.authority.chain[0] ?? '',
})

/** How a client of the shop connects. */
export function options(
  { port }: { readonly port: number },
  other: Partial<KmsConnectionOptions> = {},
): KmsConnectionOptions {
  return {
    url: `https://127.0.0.1:${port}`,
    roots: [rootCertificate],
    trust,
    attester: attesterOf(machines.tdx(SHOP)),
    vmConfig: '{"of":"the shop"}',
    deadlineMs: 20_000,
    ...other,
  }
}

/** Code, text, and the code of the cause of the error of a KMS. */
export async function refused(
  work: Promise<unknown>,
): Promise<{ code: string; message: string; refusal: string | undefined; cause: unknown }> {
  try {
    await work
  } catch (error) {
    const { name, code, message, refusal, cause } = error as Error & Record<string, string>
    assert.equal(name, 'KmsError', String(error))
    return { code: code ?? '', message, refusal, cause }
  }
  return assert.fail('it was not refused')
}
