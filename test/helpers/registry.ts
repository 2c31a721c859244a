import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { gzipSync } from 'node:zlib'
import { createTar } from './tar.ts'

/** A registry of images that speaks as much of the distribution API (v2) as a pull needs. */
export interface TestRegistry {
  /** `address:port`, as images name it. */
  readonly host: string
  /** Digest of the manifest of every image in it. */
  readonly digest: string
  /** Who may pull; undefined lets everybody. */
  credentials: { readonly username: string; readonly password: string } | undefined
  /** Layers are sent up to the middle, and no further, until this is false again. */
  stuck: boolean
  /** Manifest requests that were served. */
  pulls(): number
  /** Layers whose sending has begun. */
  readonly begun: Promise<void>
  /** Fulfils when a layer's receiver went away before its end. */
  readonly leftEarly: Promise<void>
}

export interface TestRegistryOptions {
  /** Where it listens: the address at which an engine finds the tests. */
  readonly address: string
  /** Written into the layer, so that the image is one of its own. */
  readonly content?: string
  /** Of the layer, before compression. Default: 1 MiB that does not compress. */
  readonly bytes?: number
  /** A tar as layer instead, and the words that run in it. */
  readonly runnable?: { readonly files: Buffer; readonly command: readonly string[] }
}

/** Serves one tiny image under every name and every tag but `missing`. */
export async function startRegistry(
  t: TestContext,
  { address, content = 'content', bytes = 1024 * 1024, runnable }: TestRegistryOptions,
): Promise<TestRegistry> {
  const files =
    runnable?.files ??
    createTar([
      { path: 'content', data: Buffer.from(content) },
      { path: 'noise', data: noise(content, bytes) },
    ])
  const Cmd = runnable?.command ?? ['/content']
  const layer = gzipSync(files)
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      config: { Env: ['FROM_IMAGE=1'], Cmd, Labels: { 'io.example': content } },
      rootfs: { type: 'layers', diff_ids: [digestOf(files)] },
      history: [{ created_by: 'test' }],
    }),
  )
  const part = (mediaType: string, data: Buffer) => ({
    mediaType: `application/vnd.docker.${mediaType}`,
    size: data.length,
    digest: digestOf(data),
  })
  const manifestType = 'application/vnd.docker.distribution.manifest.v2+json'
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: manifestType,
      config: part('container.image.v1+json', config),
      layers: [part('image.rootfs.diff.tar.gzip', layer)],
    }),
  )

  let pulls = 0
  let begin = () => {}
  let leave = () => {}
  const registry = {
    credentials: undefined as TestRegistry['credentials'],
    stuck: false,
    begun: new Promise<void>((done) => {
      begin = done
    }),
    leftEarly: new Promise<void>((done) => {
      leave = done
    }),
    digest: digestOf(manifest),
    pulls: () => pulls,
  }

  const server = createServer((request, response) => {
    const send = (status: number, type: string, data: Buffer) => {
      response.writeHead(status, {
        'content-type': type,
        'content-length': data.length,
        'docker-distribution-api-version': 'registry/2.0',
        'docker-content-digest': digestOf(data),
      })
      response.end(request.method === 'HEAD' ? undefined : data)
    }
    const fault = (status: number, code: string) =>
      send(
        status,
        'application/json',
        Buffer.from(JSON.stringify({ errors: [{ code, message: code }] })),
      )
    if (!allowed(request, registry.credentials)) {
      response.setHeader('www-authenticate', 'Basic realm="test"')
      return fault(401, 'UNAUTHORIZED')
    }
    const [, kind, reference] =
      /^\/v2\/.+\/(manifests|blobs)\/([^/]+)$/.exec(request.url ?? '') ?? []
    if (request.url === '/v2/') return send(200, 'application/json', Buffer.from('{}'))
    if (kind === 'manifests' && reference !== 'missing') {
      pulls++
      return send(200, manifestType, manifest)
    }
    if (reference === digestOf(config)) return send(200, 'application/octet-stream', config)
    if (reference !== digestOf(layer)) return fault(404, 'MANIFEST_UNKNOWN')
    if (!registry.stuck) return send(200, 'application/octet-stream', layer)
    response.writeHead(200, { 'content-length': layer.length })
    let sent = layer.length >> 1
    response.write(layer.subarray(0, sent))
    // Docker may notice that a pull was given up only when more of the layer arrives.
    const trickle = setInterval(() => {
      if (sent < layer.length - 1) response.write(layer.subarray(sent, ++sent))
    }, 20)
    response.on('close', () => {
      clearInterval(trickle)
      leave()
    })
    begin()
  })
  server.keepAliveTimeout = 1000
  await new Promise<void>((done) => server.listen(0, address, done))
  t.after(async () => {
    server.closeAllConnections()
    await new Promise((done) => server.close(done))
  })
  return Object.assign(registry, { host: `${address}:${(server.address() as AddressInfo).port}` })
}

function allowed(request: IncomingMessage, credentials: TestRegistry['credentials']): boolean {
  if (!credentials) return true
  const { username, password } = credentials
  const wanted = Buffer.from(`${username}:${password}`).toString('base64')
  return request.headers.authorization === `Basic ${wanted}`
}

function digestOf(data: Uint8Array): string {
  return `sha256:${createHash('sha256').update(data).digest('hex')}`
}

/** Bytes that do not compress, the same for the same seed. */
function noise(seed: string, size: number): Buffer {
  const blocks: Buffer[] = []
  for (let count = 0; count * 64 < size; count++) {
    blocks.push(createHash('sha512').update(`${seed} ${count}`).digest())
  }
  return Buffer.concat(blocks).subarray(0, size)
}
