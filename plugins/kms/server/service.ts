import { clearTimeout, setTimeout } from 'node:timers'
import type { ConsolaInstance } from 'consola'
import type { Attester } from '../../../src/attester/attester.ts'
import { parseAddress } from '../../../src/config/address.ts'
import { ApiError, messageOf } from '../../../src/errors.ts'
import type { EventSink } from '../../../src/events/sink.ts'
import type { Counter } from '../../../src/metrics.ts'
import { parseCertificate } from '../../../src/x509/certificate.ts'
import { readPem } from '../../../src/x509/pem.ts'
import type { P256Key } from '../certificates/p256-key.ts'
import { bootstrap } from '../onboarding/bootstrap.ts'
import { fetchRootKeys, forget } from '../onboarding/join.ts'
import { type Onboarding, serveOnboarding } from '../onboarding/serve.ts'
import type { BootInfo } from '../policy/boot-info.ts'
import type { Policy } from '../policy/policy.ts'
import { verificationBudget, verificationLimits } from '../trust/verification-budget.ts'
import { type EvidenceTrust, verifyEvidence } from '../trust/verified-evidence.ts'
import type { ServerConfig } from './config.ts'
import { DerivedKeys } from './derived-keys.ts'
import { listenRaTls, type RaTlsListener } from './listener.ts'
import { verifyPeer } from './peer.ts'
import type { Kms } from './public-methods.ts'
import { renewCertificates } from './renewal.ts'
import { requestEvents } from './request-events.ts'
import { linkedAuthority } from './root-links.ts'
import { clearRoots, type Roots } from './root-set.ts'
import { addRootVersion, adoptRootVersions, openRoots, useRootVersion } from './roots.ts'
import { kmsRoutes } from './routes.ts'
import { issueRpcCertificate, type RpcCertificate } from './rpc-certificate.ts'

/** What a KMS is run with. */
export interface ServiceOptions {
  readonly config: ServerConfig
  /** Of the root keys. */
  readonly folder: string
  /** The plugin's own folder. */
  readonly stateDir: string
  readonly attester: Attester
  readonly trust: EvidenceTrust
  readonly policy: Policy
  readonly requests: Counter
  readonly events: EventSink
  readonly log: ConsolaInstance
}

/** What a KMS is doing; `waiting` tries again by itself. */
export type ServiceMode = 'stopped' | 'onboarding' | 'serving' | 'waiting'

/** A KMS from its first start, without root keys, to its stop. */
export interface KmsService {
  /** @throws {Error} For root keys that cannot be used, or an address that is taken. */
  start(): Promise<void>
  stop(): Promise<void>
  notReady(): string | undefined
  readonly mode: ServiceMode
  /** Undefined until there are root keys. */
  readonly roots: Roots | undefined
  /** Where it listens, for keys or to be set up; undefined where it does not. */
  readonly address: string | undefined
  /** Makes root keys of the next version; uses them unless they are only prepared. */
  rotate(prepare: boolean): Promise<number>
  use(version: number): Promise<void>
  /** Adds the versions another KMS of the cluster has; gives those that were added. */
  sync(sourceUrl: string, signal?: AbortSignal): Promise<readonly number[]>
}

/** Evidence gets old: of a Nitro document verifiers accept an hour, of a quote the collateral's age. */
const RENEW_MS = { nitro: 20 * 60_000, tdx: 12 * 3_600_000 } as const

const FIRST_RETRY_MS = 1000
const LAST_RETRY_MS = 60_000

/** Requests that are still running when the plugin stops have this long. */
const DRAIN_MS = 2000

/** How long another KMS may take for an answer. */
const SOURCE_DEADLINE_MS = 15_000

export function createKmsService(options: ServiceOptions): KmsService {
  const { config, folder, stateDir, attester, trust, policy, requests, events, log } = options
  const told = requestEvents(events)
  const derived = new DerivedKeys()
  let mode: ServiceMode = 'stopped'
  let roots: Roots | undefined
  let self: BootInfo | undefined
  let listener: RaTlsListener | undefined
  let onboarding: Onboarding | undefined
  /** One for the whole run: clients that come back expect the key they verified. */
  let rpcKey: P256Key | undefined
  let why: string | undefined
  let retryMs = FIRST_RETRY_MS
  let timer: ReturnType<typeof setTimeout> | undefined
  /** One change at a time. */
  let work: Promise<unknown> = Promise.resolve()

  const stopped = () => mode === 'stopped'

  function oneByOne<T>(change: () => Promise<T>): Promise<T> {
    const next = work.then(change)
    work = next.catch(() => undefined)
    return next
  }

  function later(ms: number, change: () => Promise<void>): void {
    clearTimeout(timer)
    timer = setTimeout(() => void oneByOne(async () => (stopped() ? undefined : change())), ms)
    timer.unref()
  }

  /** Serves, or says why not and tries again. */
  async function serve(): Promise<void> {
    let rpc: RpcCertificate
    try {
      rpc = await certify(opened())
    } catch (error) {
      wait(messageOf(error), serve)
      return
    }
    const { current } = opened()
    listener ??= await listenRaTls({
      ...addressOf(config.address),
      pair: rpc.pair,
      temporaryCa: current.temporaryCa.certificate,
      app: kmsRoutes({
        kms: kms(),
        requests,
        onRefused: told.refused,
        onReleased: told.released,
      }),
      verify: (certificate) => verifyPeer(certificate, temporaryCa(opened()), trust, Date.now()),
      budget: verificationBudget(
        verificationLimits(
          config.verifications_per_second,
          config.verifications_per_second_per_peer,
        ),
      ),
      limits: {
        maxConnections: config.max_connections,
        maxConnectionsPerPeer: config.max_connections_per_peer,
      },
    })
    mode = 'serving'
    why = undefined
    retryMs = FIRST_RETRY_MS
    events.append(`serving keys as ${current.domain} on port ${listener.port}`)
    renewLater()
  }

  /** A certificate with fresh evidence, by which this KMS also learns what it is itself. */
  async function certify(roots: Roots): Promise<RpcCertificate> {
    if (attester.platform === undefined) {
      throw new Error('this machine has neither Intel TDX nor a Nitro module: it cannot attest')
    }
    const material = { ...roots.current, authority: linkedAuthority(roots) }
    const rpc = await issueRpcCertificate(material, attester, { key: rpcKey })
    if (config.enforce_self_authorization) {
      const verified = await verifyEvidence(rpc.platform, rpc.spki, trust, Date.now())
      self = verified.boot
    }
    rpcKey = rpc.key
    return rpc
  }

  function renewLater(): void {
    later(RENEW_MS[attester.platform ?? 'tdx'], async () => {
      try {
        listener?.replaceTls((await certify(opened())).pair)
      } catch (error) {
        log.warn(`Cannot renew the certificate, the old one is shown: ${messageOf(error)}`)
      }
      renewLater()
    })
  }

  function wait(reason: string, retry: () => Promise<void>): void {
    mode = 'waiting'
    if (why !== reason) {
      log.warn(`Cannot serve keys: ${reason}`)
      events.append(`cannot serve keys: ${reason}`, { level: 'error' })
    }
    why = reason
    later(retryMs, retry)
    retryMs = Math.min(retryMs * 2, LAST_RETRY_MS)
  }

  async function onboard(): Promise<void> {
    onboarding = await serveOnboarding({
      ...addressOf(config.onboard_address ?? config.address),
      requireToken: config.require_token,
      folder,
      stateDir,
      attester,
      policy,
      trust,
      enforceSelf: config.enforce_self_authorization,
      siteName: config.site_name,
      sourceCa: config.source_ca,
      requests,
      onEvent: (text) => events.append(text),
      onRefused: told.refused,
    })
    mode = 'onboarding'
    why = `it has no root keys yet: set it up at port ${onboarding.port}`
    events.append(`waiting to be set up on port ${onboarding.port}`)
    log.info(`KMS without root keys: set it up on port ${onboarding.port}${tokenHint()}`)
    const { finished } = onboarding
    void finished.then(() => oneByOne(async () => (stopped() ? undefined : setUp())))
  }

  const tokenHint = () =>
    onboarding?.tokenFile === undefined ? '' : `, with the token in ${onboarding.tokenFile}`

  /** Onboarding is done: the same process goes on as a KMS. */
  async function setUp(): Promise<void> {
    await onboarding?.close(DRAIN_MS)
    onboarding = undefined
    try {
      roots = await open()
      if (!roots) throw new Error('there are no root keys')
      await serve()
    } catch (error) {
      wait(`Failed to onboard: ${messageOf(error)}`, setUp)
    }
  }

  async function bootstrapAlone(domain: string): Promise<void> {
    try {
      await bootstrap({
        folder,
        domain,
        attester,
        policy,
        trust,
        enforceSelf: config.enforce_self_authorization,
      })
      events.append(`made root keys for ${domain}`)
    } catch (error) {
      wait(messageOf(error), () => bootstrapAlone(domain))
      return
    }
    await setUp()
  }

  function opened(): Roots {
    if (roots) return roots
    throw new ApiError(503, 'KMS_NOT_READY', 'Cannot use root keys: the KMS has none yet')
  }

  const kms = (): Kms => ({
    get roots() {
      return opened()
    },
    get self() {
      return self
    },
    derived,
    policy,
    trust,
    now: Date.now,
  })

  /** Reads the folder, at a start and after a change. */
  async function open(): Promise<Roots | undefined> {
    const found = await openRoots(folder)
    if (!found) return undefined
    const { renewed, left } = await renewCertificates(folder, found, Date.now())
    if (renewed.length > 0) events.append(`renewed the certificates ${renewed.join(', ')}`)
    if (left.length > 0) {
      const message = `certificates about to end were signed by somebody else: ${left.join(', ')}`
      events.append(message, { level: 'warn' })
    }
    if (renewed.length === 0) return found
    clearRoots(found)
    return openRoots(folder)
  }

  /** Root certificate and chain change together: without evidence for a new one all stays. */
  async function reopen(): Promise<void> {
    const next = await open()
    if (!next) throw new Error(`Cannot use "${folder}": the root keys are gone`)
    try {
      listener?.replaceTls((await certify(next)).pair)
    } catch (error) {
      clearRoots(next)
      throw error
    }
    if (roots) clearRoots(roots)
    roots = next
  }

  return {
    async start() {
      mode = 'waiting'
      roots = await open()
      if (roots) return oneByOne(serve)
      const { auto_bootstrap_domain: domain } = config
      return oneByOne(domain === undefined ? onboard : () => bootstrapAlone(domain))
    },
    async stop() {
      mode = 'stopped'
      clearTimeout(timer)
      await work
      await Promise.all([listener?.close(DRAIN_MS), onboarding?.close(DRAIN_MS)])
      listener = undefined
      onboarding = undefined
      derived.clear()
      if (roots) clearRoots(roots)
      roots = undefined
      rpcKey = undefined
    },
    notReady: () => why,
    get mode() {
      return mode
    },
    get roots() {
      return roots
    },
    get address() {
      if (listener) return withPort(config.address, listener.port)
      return onboarding && withPort(config.onboard_address ?? config.address, onboarding.port)
    },
    rotate: (prepare) =>
      oneByOne(async () => {
        opened()
        const version = await addRootVersion(folder)
        if (!prepare) await useRootVersion(folder, version)
        await reopen()
        return version
      }),
    use: (version) =>
      oneByOne(async () => {
        opened()
        await useRootVersion(folder, version)
        await reopen()
      }),
    sync: (sourceUrl, signal) =>
      oneByOne(async () => {
        opened()
        const fetched = await fetchRootKeys({
          sourceUrl,
          attester,
          policy,
          trust,
          sourceCa: config.source_ca,
          deadlineMs: SOURCE_DEADLINE_MS,
          signal,
        })
        const added = await adoptRootVersions(folder, fetched.keys).finally(() => forget(fetched))
        await reopen()
        return added
      }),
  }
}

/** The host of `:PORT` is every interface. */
function addressOf(text: string): { readonly host: string; readonly port: number } {
  const address = parseAddress(text)
  if (!address) throw new Error(`Cannot listen on "${text}": expected HOST:PORT`)
  return { host: address.host, port: address.port }
}

/** The address as configured, with the port it became. */
const withPort = (text: string, port: number): string => text.replace(/\d+$/, String(port))

function temporaryCa({ current }: Roots) {
  const [der = new Uint8Array()] = readPem(current.temporaryCa.certificate, 'CERTIFICATE', 1)
  return parseCertificate(der)
}
