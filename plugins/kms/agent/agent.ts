import type { AppIdentitySource } from '../../../src/attester/app-identity.ts'
import type { Attester } from '../../../src/attester/attester.ts'
import type { EventSink } from '../../../src/events/sink.ts'
import { readTextFile } from '../../../src/files/text-file.ts'
import { parsePemChain } from '../../../src/x509/pem.ts'
import { versionOfRoot } from '../certificates/root-name.ts'
import type { KmsConnection, KmsConnectionOptions } from '../client/connection.ts'
import type { Config } from '../config.ts'
import { signData, verifyData } from '../signing/messages.ts'
import type { EvidenceTrust } from '../trust/verified-evidence.ts'
import { AwaitedKeys } from './awaited-keys.ts'
import type { UpstreamConfig } from './config.ts'
import { type FileKeys, type KmsOfFile, readKeyFile } from './key-file.ts'
import { type ExpectedProvider, providerConflict } from './key-provider.ts'
import type { KeySource } from './key-source.ts'
import { type Keys, keysFrom } from './keys.ts'
import { type KmsCluster, kmsCluster } from './kms-cluster.ts'
import { kmsSigner } from './kms-signer.ts'
import { localKeys } from './local-keys.ts'
import { upstreamKeys } from './upstream.ts'

/** How the agent reaches what is outside of it; see `tools.ts`. */
export interface AgentTools {
  readonly openConnection: (options: KmsConnectionOptions) => Promise<KmsConnection>
  /** @throws {Error} For a configuration that cannot be used. */
  readonly openTrust: (config: Config['trust'], signal: AbortSignal) => Promise<EvidenceTrust>
  /** See `pause` in `retry.ts`. */
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>
}

/** What an agent is made from. */
export interface AgentOptions {
  readonly config: Config
  readonly attestation: Attester
  readonly appIdentity: AppIdentitySource
  /** Where keys of the VM's own are kept. */
  readonly stateDir: string
  readonly events: EventSink
  readonly tools: AgentTools
}

/** A running plugin's keys and all that is done with them. */
export interface Agent {
  /** @throws {ApiError} 503 `KMS_UNAVAILABLE` while no KMS has given any. */
  keys(): Keys
  /** Why there are none; undefined when there are. */
  notReady(): string | undefined
  /** Zeroes the keys and ends what is under way. */
  stop(): void
  readonly signData: typeof signData
  readonly verifyData: typeof verifyData
}

const MAX_ROOTS = 8
const MAX_ROOTS_BYTES = 256 * 1024

/** How long the KMS of a key file may take. */
const DEADLINE_MS = 10_000

/**
 * Reads or makes the keys, or begins to ask a KMS for them. Loaded when the plugin starts: the
 * curves take a daemon without TDX and Nitro, which never gets here, a tenth of its start.
 *
 * @throws {Error} When the key file, the seed or what a KMS is known by cannot be used.
 */
export async function createAgent(options: AgentOptions): Promise<Agent> {
  const ending = new AbortController()
  const { upstream } = options.config
  const making = { ...options, signal: ending.signal }
  try {
    const { clear, ...source } = await (upstream ? awaitedKeys(making, upstream) : keptKeys(making))
    const stop = () => {
      ending.abort()
      clear()
    }
    return { ...source, stop, signData, verifyData }
  } catch (error) {
    ending.abort()
    throw error
  }
}

interface Making extends AgentOptions {
  readonly signal: AbortSignal
}

type Source = Pick<Agent, 'keys' | 'notReady'> & { clear(): void }

/** Keys of a file or of the VM's own, which are there at once. */
async function keptKeys(making: Making): Promise<Source> {
  const { config, events, attestation } = making
  const { source, provider } = config.key_file
    ? await fileKeys(making, config.key_file.file)
    : await seedKeys(making)
  const conflict = await providerConflict(attestation, provider)
  if (conflict !== undefined) {
    const text = `${conflict}, but the keys are those of ${source.from}`
    events.append(text, { level: 'warn' })
  }
  const keys = keysFrom(source, making)
  events.append(`keys are derived from ${keys.from}`)
  return { keys: () => keys, notReady: () => undefined, clear: () => keys.keyring.clear() }
}

interface Kept {
  readonly source: KeySource
  readonly provider: ExpectedProvider
}

async function seedKeys({ stateDir, events }: Making): Promise<Kept> {
  const onMade = () => void events.append('made new keys, there were none yet')
  return { source: await localKeys(stateDir, onMade), provider: { names: ['none', 'local'] } }
}

async function fileKeys(making: Making, path: string): Promise<Kept> {
  const { provider, authority, ...keys }: FileKeys = await readKeyFile(path)
  if (authority.kind === 'given') return { source: { ...keys, authority }, provider }
  const signer = await signerOfFile(making, authority)
  return { source: { ...keys, authority: { kind: 'kms', signer } }, provider }
}

async function signerOfFile(making: Making, { url, root }: KmsOfFile) {
  const cluster = await reach(making, { urls: [url], roots: [root], deadlineMs: DEADLINE_MS })
  return kmsSigner(cluster, { certificate: root, version: versionOfRoot(root) })
}

/** Keys that a KMS gives, sooner or later. */
async function awaitedKeys(making: Making, upstream: UpstreamConfig): Promise<Source> {
  const { urls, root_ca, root_version: rootVersion, deadline_ms: deadlineMs } = upstream
  const { attestation: attester, appIdentity, events, tools, signal } = making
  const roots = parsePemChain(await readTextFile(root_ca, MAX_ROOTS_BYTES), MAX_ROOTS)
  const cluster = await reach(making, { urls, roots, deadlineMs })
  const awaited = new AwaitedKeys({
    ask: async () => {
      const identity = appIdentity.current()
      const from = { cluster, roots, rootVersion, attester, identity, events, signal }
      return keysFrom(await upstreamKeys(from), making)
    },
    events,
    signal,
    pause: tools.pause,
  })
  // The daemon starts whether or not a KMS is there.
  void awaited.run()
  return {
    keys: () => awaited.current(),
    notReady: () => awaited.notReady(),
    clear: () => awaited.clear(),
  }
}

interface Reached extends Pick<KmsConnectionOptions, 'deadlineMs' | 'roots'> {
  readonly urls: readonly string[]
}

/** Nothing is connected to yet. */
async function reach(making: Making, { urls, roots, deadlineMs }: Reached): Promise<KmsCluster> {
  const { config, attestation: attester, appIdentity, events, tools, signal } = making
  const trust = await tools.openTrust(config.trust, signal)
  const cluster = kmsCluster({
    urls,
    connect: (url, closing) =>
      tools.openConnection({
        url,
        roots,
        trust,
        attester,
        vmConfig: appIdentity.current().vmConfig,
        deadlineMs,
        signal: closing,
      }),
    onPassedOver: (why) => events.append(`another KMS was asked: ${why}`, { level: 'warn' }),
  })
  signal.addEventListener('abort', () => cluster.close(), { once: true })
  return cluster
}
