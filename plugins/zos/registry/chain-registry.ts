import { sleep } from '../waiting.ts'
import { createChainClient } from './chain/chain-client.ts'
import { createChainWatch } from './chain/chain-watch.ts'
import {
  decodeContract,
  decodeContractIds,
  decodeFarmTwin,
  decodeNode,
  decodeTwin,
  decodeU32,
  decodeU64,
} from './chain/records.ts'
import { STORAGE } from './chain/storage-key.ts'
import type { Contract, RegisteredNode, Registry, Twin } from './registry.ts'
import { RegistryError } from './registry.ts'
import { TimedCache } from './timed-cache.ts'

/** How long the reference remembers a twin's key (spec §2). */
const KEPT_MS = 60 * 60 * 1000

/** How long it is remembered that there is no such twin. */
const NONE_MS = 10_000

const MAX_TWINS = 10_000

export interface ChainRegistryOptions {
  /** Nodes of the chain, asked in turn until one answers: `http:`, `https:`, `ws:`, `wss:`. */
  readonly urls: readonly URL[]
  /** PEM: who may have signed their certificates, in place of the system's authorities. */
  readonly ca?: string | undefined
  /** Who this node is; one of the three, the first that is given counts. */
  readonly nodeId?: number | undefined
  readonly twinId?: number | undefined
  /** The account of the node's twin, 32 bytes. */
  readonly account?: Uint8Array | undefined
  readonly adminTwins: readonly number[]
  /** Time for one answer of one node, in milliseconds; default 5000. */
  readonly timeoutMs?: number | undefined
  /** Time between two looks at the contracts, in milliseconds; default one minute. */
  readonly pollMs?: number | undefined
  /**
   * Pauses before a contract that is not found is looked for again, in milliseconds: a node of the
   * chain may lag behind the one that took it (spec §14).
   */
  readonly lagMs?: readonly number[] | undefined
  /** Told why the chain cannot be asked, once, and with undefined when it can again. */
  readonly report?: ((problem: string | undefined) => void) | undefined
  /** Monotonic milliseconds. */
  readonly now?: (() => number) | undefined
}

/**
 * The registry that the grid has: the storage of its chain, read only (spec §11.1). Contracts are
 * asked for each time, since an update of a contract comes right before that of its deployment.
 *
 * @throws {TypeError} For options that name no URL or no node.
 */
export function createChainRegistry(options: ChainRegistryOptions): Registry {
  const { urls, ca, timeoutMs = 5000, lagMs = [1000, 2000] } = options
  const now = options.now ?? (() => performance.now())
  if (urls.length === 0) throw new TypeError('Cannot read the chain: no URL is given')
  if (options.nodeId === undefined && options.twinId === undefined && !options.account) {
    throw new TypeError('Cannot find this node on the chain: give its id, its twin or its account')
  }
  const client = createChainClient({ urls, ca, timeoutMs })
  const twins = new TimedCache<number, Twin | undefined>(MAX_TWINS, now)
  const own = new TimedCache<'node', RegisteredNode & { readonly farmer: number }>(1, now)
  const watch = createChainWatch({
    client,
    pollMs: options.pollMs ?? 60_000,
    node: async (signal) => (await self(signal)).id,
    report: options.report,
  })

  async function needed(key: Uint8Array, what: string, signal?: AbortSignal): Promise<Uint8Array> {
    const value = await client.value(key, signal)
    if (value !== undefined) return value
    throw new RegistryError('REGISTRY_INVALID', `Cannot find ${what} on the chain`)
  }

  async function nodeId(signal?: AbortSignal): Promise<number> {
    if (options.nodeId !== undefined) return options.nodeId
    const twin = options.twinId ?? (await twinOfAccount(options.account as Uint8Array, signal))
    const what = `the node of twin ${twin}`
    return some(decodeU32(await needed(STORAGE.nodeOfTwin(twin), what, signal), what), what)
  }

  async function twinOfAccount(account: Uint8Array, signal?: AbortSignal): Promise<number> {
    const what = "the twin of this node's account"
    return some(decodeU32(await needed(STORAGE.twinOfAccount(account), what, signal), what), what)
  }

  /** This node and its farmer, which change about never. */
  async function self(signal?: AbortSignal): Promise<RegisteredNode & { farmer: number }> {
    const known = own.get('node')
    if (known) return known.value
    const id = await nodeId(signal)
    const node = decodeNode(await needed(STORAGE.node(id), `node ${id}`, signal), id)
    const farm = await needed(STORAGE.farm(node.farmId), `farm ${node.farmId}`, signal)
    const found = { id, ...node, farmer: decodeFarmTwin(farm, node.farmId) }
    own.set('node', found, KEPT_MS)
    return found
  }

  async function contract(id: bigint, signal?: AbortSignal): Promise<Contract | undefined> {
    const key = STORAGE.contract(id)
    for (let tries = 0; ; tries++) {
      const value = await client.value(key, signal)
      if (value !== undefined) return decodeContract(value, id)
      const pause = lagMs[tries]
      if (pause === undefined) return undefined
      await sleep(pause, signal)
      client.turn()
    }
  }

  return {
    async node(signal) {
      const { id, twinId, farmId } = await self(signal)
      return { id, twinId, farmId }
    },
    async twin(id, signal) {
      const known = twins.get(id)
      if (known) return known.value
      const value = await client.value(STORAGE.twin(id), signal)
      const twin = value && decodeTwin(value, id)
      twins.set(id, twin, twin ? KEPT_MS : NONE_MS)
      return twin
    },
    contract,
    farmerTwin: async (signal) => (await self(signal)).farmer,
    async rentContract(signal) {
      const { id } = await self(signal)
      const value = await client.value(STORAGE.rentContract(id), signal)
      return (value && decodeU64(value, `rent contract of node ${id}`)) || undefined
    },
    async activeContracts(signal) {
      const { id } = await self(signal)
      const value = await client.value(STORAGE.activeContracts(id), signal)
      return value ? decodeContractIds(value) : []
    },
    async nameContract(name, signal) {
      const value = await client.value(STORAGE.nameContract(name), signal)
      return (value && decodeU64(value, 'contract of a name')) || undefined
    },
    adminTwins: () => options.adminTwins,
    onChange: watch.onChange,
    start: async () => watch.start(),
    async stop() {
      watch.stop()
      client.close()
    },
    notReady: watch.notReady,
  }
}

function some(id: number, what: string): number {
  if (id !== 0) return id
  throw new RegistryError('REGISTRY_INVALID', `Cannot find ${what} on the chain`)
}
