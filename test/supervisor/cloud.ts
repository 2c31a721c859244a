import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import type { ServiceInput } from './targets.ts'

/** The device whose targets {@link startCloud} has. */
export const DEVICE = '0123456789abcdef0123456789abcdef'
/** The one app of its targets. */
export const CLOUD_APP = 'aaaabbbbccccddddeeeeffff00001111'
export const TOKEN = 'token-of-the-device'

/** How a request is answered: as it should be, with a status, in garbage, or cut in the middle. */
export type Mood = 'well' | number | 'garbage' | 'cut'

export interface Poll {
  readonly etag: string | undefined
  readonly answered: Mood | 304
}

type Members = Readonly<Record<string, unknown>>

/** What targets are polled from, and reports are sent to (spec §19). */
export interface Cloud {
  /** Of both: tables of the configuration. */
  readonly config: string
  /** Polls in the order they came. */
  readonly polls: readonly Poll[]
  /** What reports told of the device, in the order they came, also where they were refused. */
  readonly reports: readonly { readonly told: Members; readonly answered: Mood }[]
  /** All that reports told and that was accepted, later members over earlier ones. */
  accepted(): Members & { readonly apps?: Record<string, CloudApp> }
  /** The next polls get this target, under a new ETag. */
  publish(target: unknown): void
  polled: Mood
  reported: Mood
}

export interface CloudApp {
  readonly release_uuid?: string
  readonly releases: Record<
    string,
    { readonly update_status: string; readonly services: Record<string, { status: string }> }
  >
}

/** @param address Where the daemon finds the tests. */
export async function startCloud(
  t: TestContext,
  address: string,
  tokenFile: string,
): Promise<Cloud> {
  let target: unknown = { [DEVICE]: { name: 'box', config: {}, apps: {} } }
  let version = 0
  const polls: Poll[] = []
  const reports: { told: Members; answered: Mood }[] = []
  const cloud: Cloud = {
    config: '',
    polls,
    reports,
    accepted() {
      const taken = reports.filter(({ answered }) => answered === 'well')
      const all = Object.assign({}, ...taken.map(({ told }) => told))
      return { ...all, apps: Object.assign({}, ...taken.map(({ told }) => told.apps ?? {})) }
    },
    publish(next) {
      target = next
      version++
    },
    polled: 'well',
    reported: 'well',
  }
  const server = createServer(async (request, response) => {
    let text = ''
    for await (const chunk of request) text += chunk
    assert.equal(request.headers.authorization, `Bearer ${TOKEN}`)
    if (request.method === 'PATCH') {
      const mood = cloud.reported
      reports.push({ told: JSON.parse(text)[DEVICE], answered: mood })
      if (mood === 'cut') response.destroy()
      else response.writeHead(typeof mood === 'number' ? mood : 200).end()
      return
    }
    const tag = `"${version}"`
    const etag = request.headers['if-none-match']
    const mood = cloud.polled
    const same = mood === 'well' && etag === tag
    polls.push({ etag, answered: same ? 304 : mood })
    const body = JSON.stringify(target)
    if (same) response.writeHead(304, { etag: tag }).end()
    else if (typeof mood === 'number') response.writeHead(mood).end('no')
    else if (mood === 'garbage') response.writeHead(200, { etag: tag }).end('{"device":')
    else if (mood === 'well') response.writeHead(200, { etag: tag }).end(body)
    else {
      response.writeHead(200, { etag: tag, 'content-length': String(body.length) })
      response.write(body.slice(0, body.length / 2), () => response.destroy())
    }
  })
  server.listen(0, address)
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const url = `http://${address}:${(server.address() as AddressInfo).port}`
  const token = `token = { file = "${tokenFile}" }`
  const config = `[plugins.supervisor.device]
uuid = "${DEVICE}"

[plugins.supervisor.target_url]
url = "${url}/device/v3/${DEVICE}/state"
interval_s = 1
${token}

[plugins.supervisor.report]
url = "${url}/device/v3/state"
interval_s = 1
${token}
`
  return Object.assign(cloud, { config })
}

/** A v3 target (spec §9.1) with one app; the containers are named as those of `target`. */
export function cloudTarget(
  appId: number,
  image: string,
  services: Readonly<Record<string, ServiceInput>>,
  number = 1,
): unknown {
  const entries = Object.entries(services).map(([name, service], index) => {
    const { environment = {}, labels = {}, ...composition } = service
    const numbers = { id: index + 1, image_id: index + 1001 }
    const fields = { ...numbers, image, environment, labels }
    return [name, { ...fields, composition: { stop_grace_period: '1s', ...composition } }]
  })
  const release = { id: number, services: Object.fromEntries(entries), volumes: {}, networks: {} }
  const app = { id: appId, name: `app${appId}`, releases: { [`c${number}`]: release } }
  // Reports that were refused are sent again within this time.
  const config = { SUPERVISOR_POLL_INTERVAL: '1000' }
  return { [DEVICE]: { name: 'box', config, apps: { [CLOUD_APP]: app } } }
}
