import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Hono } from 'hono'
import type { AgentTools } from '../../plugins/kms/agent/agent.ts'
import { setupAgent } from '../../plugins/kms/agent/setup.ts'
import kms from '../../plugins/kms/index.ts'
import type { BootInfo } from '../../plugins/kms/policy/boot-info.ts'
import { deny, type Policy } from '../../plugins/kms/policy/policy.ts'
import { listenRaTls } from '../../plugins/kms/server/listener.ts'
import { verifyPeer } from '../../plugins/kms/server/peer.ts'
import type { Kms } from '../../plugins/kms/server/public-methods.ts'
import { linkedAuthority } from '../../plugins/kms/server/root-links.ts'
import {
  createMaterial,
  type RootMaterial,
  randomRootKeys,
} from '../../plugins/kms/server/root-material.ts'
import { type KmsEnv, kmsRoutes } from '../../plugins/kms/server/routes.ts'
import { issueRpcCertificate } from '../../plugins/kms/server/rpc-certificate.ts'
import type { AppIdentity } from '../../src/attester/app-identity.ts'
import type { Attester } from '../../src/attester/attester.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { hostPlugin, type PluginHost } from '../helpers/plugin-host.ts'
import { hex, IDENTITY } from './kms-fixtures.ts'
import {
  APP_EVENTS,
  attesterOf,
  type Cloud,
  cloud,
  derOf,
  rootsOf,
  temporaryCaOf,
} from './kms-server-fixtures.ts'

export const maker: Cloud = cloud()
export const { trust } = maker

/** What the application's machine measured when it booted, with no word of where keys come from. */
export const BOOTED = {
  'system-preparing': '',
  'app-id': '01'.repeat(20),
  'compose-hash': '02'.repeat(32),
  'instance-id': '03'.repeat(20),
  'boot-mr-done': '',
  'os-image-hash': '04'.repeat(32),
} as const

export const identity: AppIdentity = {
  ...IDENTITY,
  appId: BOOTED['app-id'],
  composeHash: BOOTED['compose-hash'],
  instanceId: BOOTED['instance-id'],
}

/** A TDX guest that measures: each event shows in its later evidence. */
export function guest(booted: Readonly<Record<string, string>> = BOOTED): Attester & {
  /** Names and payloads of what was measured since the boot. */
  readonly measured: (readonly [name: string, payload: string])[]
} {
  const events: Record<string, string> = { ...booted }
  const measured: [string, string][] = []
  const machine = () => maker.tdx(events)
  return {
    ...attesterOf(machine()),
    evidence: (reportData) => attesterOf(machine()).evidence(reportData),
    runtimeEvents: {
      list: async () => machine().eventLog.filter(({ imr }) => imr === 3),
      emit: async (name, payload) => {
        measured.push([name, Buffer.from(payload).toString()])
        events[name] = hex(payload)
      },
    },
    measured,
  }
}

/** What a KMS does with requests, beside what it does by itself. */
export interface KmsChanges {
  /** Answers in its place. */
  readonly before?: (method: string) => Response | Promise<Response> | undefined
  /** Changes the members of what it answers with 200. */
  readonly after?: (method: string, answer: Record<string, unknown>) => unknown
}

/** A KMS on a real socket. */
export interface RunningKms {
  readonly url: string
  readonly port: number
  readonly material: RootMaterial
  /** Methods that were called, in order. */
  readonly called: string[]
  /** Whom the policy was asked about. */
  readonly asked: BootInfo[]
  /** How many client certificates were looked at. */
  readonly verified: () => number
  change: KmsChanges
  allowed: boolean
  /** The application it knows. */
  appId: string
  close(): Promise<void>
}

const folders: string[] = []
const running: { close?(): Promise<unknown>; stop?(): Promise<unknown> }[] = []

/** Ends what the tests of a file have left. */
export async function closeAll(): Promise<void> {
  await Promise.all(running.splice(0).map((one) => one.close?.() ?? one.stop?.()))
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true })
}

/** @param port Default any. */
export async function startKms(
  options: {
    readonly material?: RootMaterial
    readonly kms?: Pick<Kms, 'roots'>
    port?: number
  } = {},
): Promise<RunningKms> {
  const { material = createMaterial(randomRootKeys(), '127.0.0.1', undefined), port = 0 } = options
  const policy: Policy = {
    app: async (info) => {
      found.asked.push(info)
      return found.allowed && info.appId === found.appId
        ? { allowed: true, gatewayAppId: 'gateway' }
        : deny('app not registered')
    },
    kms: async () => deny('aggregated MR not allowed'),
    describe: async () => ({ isDev: false }),
  }
  const parts: Kms = {
    roots: options.kms?.roots ?? rootsOf(material),
    policy,
    trust,
    self: undefined,
    now: Date.now,
  }
  let verified = 0
  const routes = kmsRoutes({
    kms: parts,
    requests: { inc: () => undefined },
    onRefused: () => undefined,
  })
  const app = new Hono<KmsEnv>().all('*', async (c) => {
    const method = c.req.path.replace(/^\/prpc\/(KMS\.)?/, '')
    found.called.push(method)
    const instead = await found.change.before?.(method)
    if (instead) return instead
    const answer = await routes.fetch(c.req.raw, c.env)
    if (!found.change.after || answer.status !== 200) return answer
    const members = (await answer.json()) as Record<string, unknown>
    return Response.json(found.change.after(method, members) ?? members)
  })
  const shown = { ...material, authority: linkedAuthority(parts.roots) }
  const { pair } = await issueRpcCertificate(shown, attesterOf(maker.tdx(APP_EVENTS)))
  const listener = await listenRaTls({
    host: '127.0.0.1',
    port,
    pair,
    temporaryCa: material.temporaryCa.certificate,
    app,
    verify: (certificate) => {
      verified += 1
      return verifyPeer(certificate, temporaryCaOf(material), trust, Date.now())
    },
  })
  const found: RunningKms = {
    url: `https://127.0.0.1:${listener.port}`,
    port: listener.port,
    material,
    called: [],
    asked: [],
    verified: () => verified,
    change: {},
    allowed: true,
    appId: BOOTED['app-id'],
    close: () => listener.close(100),
  }
  running.push(found)
  return found
}

/** The root certificate of a KMS. */
export const rootOf = ({ authority }: RootMaterial) =>
  parseCertificate(derOf(authority.chain[0] ?? ''))

/** A file of certificates, as an operator has it. */
export function rootFile(...materials: readonly RootMaterial[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  folders.push(folder)
  const file = join(folder, 'kms-root.pem')
  writeFileSync(file, materials.map(({ authority }) => authority.chain.join('')).join(''))
  return file
}

export type Answer = Readonly<Record<string, unknown>>

/** The plugin in role agent. */
export interface AgentHost extends PluginHost {
  /** Status and JSON of a POST. */
  json(path: string, body?: object): Promise<[status: number, answer: Answer]>
  /** Resolves when an event has such a message. */
  told(message: RegExp): Promise<string>
  readonly notReady: () => string | undefined
}

/** Sets the plugin up with this machine, and with trust in the maker of all machines here. */
export function agentHost(
  config: object,
  options: {
    readonly attester?: Attester
    readonly tools?: Partial<AgentTools>
    readonly identity?: AppIdentity
  } = {},
): AgentHost {
  const { attester = guest(), tools } = options
  let notReady: (() => string | undefined) | undefined
  const plugin = {
    ...kms,
    setup: (context: Parameters<typeof setupAgent>[0]) => {
      const instance = setupAgent(context, { openTrust: async () => trust, ...tools })
      notReady = instance.notReady
      return instance
    },
  }
  const current = () => options.identity ?? identity
  const services = { attestation: attester, appIdentity: { current } }
  const host = hostPlugin(plugin as never, config, { services })
  running.push(host)
  return {
    ...host,
    json: async (path, body = {}) => {
      const init = { method: 'POST', body: JSON.stringify(body) }
      const answer = await host.request(path, init)
      return [answer.status, (await answer.json()) as Answer]
    },
    told: (message) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const found = host.messages().find((one) => message.test(one))
          if (found === undefined) return
          end()
          resolve(found)
        }
        const late = setTimeout(() => {
          end()
          reject(new Error(`no event ${message} in:\n${host.messages().join('\n')}`))
        }, 20_000)
        const unsubscribe = host.eventLog.subscribe(() => look())
        const end = () => {
          clearTimeout(late)
          unsubscribe()
        }
        look()
      }),
    notReady: () => notReady?.(),
  }
}

/** An agent of a KMS that has given the keys. */
export async function agentOf(
  kmses: readonly RunningKms[],
  options: Parameters<typeof agentHost>[1] & { readonly upstream?: object } = {},
): Promise<AgentHost> {
  const host = agentHost({ upstream: upstreamOf(kmses, options.upstream) }, options)
  await host.start()
  await host.told(/^keys are derived from/)
  return host
}

export function upstreamOf(kmses: readonly RunningKms[], more: object = {}) {
  const root_ca = rootFile(...kmses.map(({ material }) => material))
  return { urls: kmses.map(({ url }) => url), root_ca, ...more }
}

/** The code and text of an error. */
export async function refusalOf(
  work: Promise<[status: number, answer: Answer]>,
): Promise<[status: number, code: string, text: string]> {
  const [status, answer] = await work
  assert.deepEqual(Object.keys(answer), ['error', 'code'], JSON.stringify(answer))
  return [status, answer.code as string, answer.error as string]
}
