import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect as connectTls } from 'node:tls'
import { keyV0 } from '../../plugins/kms/derivation/app-keys.ts'
import { appCaScalar, appRootKey, diskKey, envKey } from '../../plugins/kms/derivation/kms-keys.ts'
import type { RootMaterial } from '../../plugins/kms/server/root-material.ts'
import { verifyEvidenceOver } from '../../plugins/kms/trust/verified-evidence.ts'
import { unhex } from '../plugins/kms-fixtures.ts'
import { APP_EVENTS, attestedBy, type Client, mint } from '../plugins/kms-server-fixtures.ts'
import { unixRequest } from './daemon.ts'
import { type KmsDaemon, type KmsSite, kmsSite } from './kms-daemon.ts'
import type { Measured } from './kms-impostors.ts'
import { machinesBeside, type StrangeKms, strangeKms } from './kms-stranger.ts'

/** Two applications that the policy knows, one that it does not, and a KMS that it does not. */
export const SHOP = app(1)
export const BANK = app(2)
export const OTHER = app(3)
export const KMS = app(4)

function app(number: number) {
  const byte = `0${number}`
  return { ...APP_EVENTS, 'app-id': byte.repeat(20), 'compose-hash': byte.repeat(32) }
}

/** What a KMS may grow by while strangers do their worst, in MiB: what a runtime keeps for later. */
const MOST_GROWN_MIB = 200

/** What it may tell of them; the event log has room for more. */
const MOST_EVENTS = 500

/** A KMS that serves, in a process of its own. */
export interface AmongStrangers {
  readonly site: KmsSite
  readonly daemon: KmsDaemon
  readonly kms: StrangeKms
  clientOf(events: Measured): Client
  /** Resident memory of the process, in MiB. */
  memory(): number
}

export async function kmsAmongStrangers(): Promise<AmongStrangers> {
  const site = await kmsSite()
  const daemon = await site.kms()
  const info = await daemon.setUp('GetAttestationInfo')
  site.policy.allowKms(info?.json ?? {})
  await daemon.bootstrap('kms.example')
  const kms = strangeKms(daemon, await daemon.port(), await machinesBeside(daemon))
  site.policy.change(({ osImages, apps }) => {
    osImages.push(APP_EVENTS['os-image-hash'])
    for (const app of [SHOP, BANK]) {
      apps[app['app-id']] = { composeHashes: [app['compose-hash']], allowAnyDevice: true }
    }
  })
  const clientOf = (events: Measured) => mint(kms.material, attestedBy(kms.machines.tdx(events)))
  // What is loaded and compiled at first is no growth.
  for (let i = 0; i < 10; i++) await kms.ask(clientOf(OTHER), 'GetAppKey')
  const memory = () => {
    const status = readFileSync(`/proc/${daemon.child.pid}/status`, 'utf8')
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1024
  }
  return { site, daemon, kms, clientOf, memory }
}

/** What nobody is to learn, by name. */
export function secretsOf({ root }: RootMaterial): Readonly<Record<string, Uint8Array>> {
  const found: Record<string, Uint8Array> = { 'root CA': root.ca, 'root k256': root.k256 }
  for (const [name, app] of Object.entries({ SHOP, BANK, OTHER, KMS })) {
    const id = unhex(app['app-id'])
    const key = appRootKey(root, id)
    found[`${name} app CA`] = appCaScalar(root, id)
    found[`${name} root`] = key
    found[`${name} env`] = envKey(root, id)
    found[`${name} disk`] = diskKey(root, id, unhex(app['instance-id']))
    found[`${name} disk of all`] = diskKey(root, id, new Uint8Array())
    for (const path of ['', 'vault']) found[`${name} key "${path}"`] = keyV0(key, path)
  }
  return found
}

/** No byte of a key has left, on no connection and in no log. */
export async function assertNothingLeft({ daemon, kms }: AmongStrangers): Promise<void> {
  const { heard, port, material } = kms
  heard.text(daemon.output())
  const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false })
  await once(socket, 'secureConnect')
  heard.stream()(socket.getPeerCertificate().raw)
  socket.destroy()
  for (const path of ['/cvmd/kms', '/cvmd/metrics', '/cvmd/events?limit=1000', '/logs']) {
    const { status, body } = await unixRequest(daemon.socket, path)
    assert.equal(status, 200, path)
    heard.text(body)
  }
  assert.ok(heard.bytes > 10_000)
  assert.deepEqual(heard.traces(secretsOf(material)), [])
}

/**
 * The process is as it was, its event log has what was there before, and nothing in it went wrong
 * unnoticed.
 *
 * @param before Resident memory, in MiB.
 */
export async function assertUnharmed(
  { daemon, memory }: AmongStrangers,
  before: number,
): Promise<void> {
  const { body } = await unixRequest(daemon.socket, '/cvmd/events?limit=1000&source=kms')
  const { events } = JSON.parse(body) as { events: { message: string }[] }
  assert.match(events[0]?.message ?? '', /^waiting to be set up/)
  assert.ok(events.length < MOST_EVENTS, `${events.length} events`)
  assert.doesNotMatch(daemon.output(), /not caught|was dropped|TypeError|RangeError/i)
  const grown = memory() - before
  assert.ok(grown < MOST_GROWN_MIB, `${grown.toFixed(0)} MiB`)
  assert.equal((await daemon.status()).mode, 'serving')
}

/**
 * An application gets its keys, and another KMS the root keys. All of them are found in what was
 * heard then: the search that found none before can see them.
 */
export async function assertGivesKeys({ site, daemon, kms, clientOf }: AmongStrangers) {
  const { port, machines, material } = kms
  const own = strangeKms(daemon, port, machines)
  const answer = await own.ask(clientOf(SHOP), 'KMS.GetAppKey?json', { api_version: 1 })
  assert.equal(answer.status, 200, answer.body)
  assert.equal((await own.ask(clientOf(SHOP), 'getKey', { name: 'vault' })).status, 200)
  assert.deepEqual(own.heard.traces(secretsOf(material)), [
    'SHOP disk hex',
    'SHOP env hex',
    'SHOP key "vault" raw',
    'SHOP root hex',
  ])
  const sibling = machines.tdx(KMS)
  const reportData = new Uint8Array(64)
  const evidence = sibling.evidence(reportData)
  const { boot } = await verifyEvidenceOver(evidence, reportData, machines.trust, Date.now())
  site.policy.allowKms({ mr_aggregated: boot.mrAggregated, device_id: boot.deviceId })
  const roots = await own.ask(mint(material, attestedBy(sibling)), 'GetKmsKey')
  assert.equal(roots.status, 200, roots.body)
  const found = own.heard.traces(secretsOf(material))
  assert.deepEqual(
    found.filter((name) => name.startsWith('root')),
    ['root CA base64', 'root k256 hex'],
  )
}
