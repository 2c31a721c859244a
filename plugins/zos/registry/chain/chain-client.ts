import { isHex, toHex } from '../../../../src/attest/hex.ts'
import { createSlots } from '../../../../src/engine/slots.ts'
import { messageOf } from '../../../../src/errors.ts'
import { RegistryError } from '../registry.ts'
import { badAnswer, type Endpoint, unreachable } from './endpoint.ts'
import { createHttpEndpoint } from './http-endpoint.ts'
import { createWebSocketEndpoint } from './web-socket-endpoint.ts'

/** Lookups under way at once; the others wait. */
const AT_ONCE = 32

/** Lookups in all; callers decide how many there are. */
const MAX_LOOKUPS = 2048

/** Keys in one request. */
const KEYS_AT_ONCE = 100

export interface ChainClientOptions {
  /** `http:`, `https:`, `ws:` or `wss:`; at least one. */
  readonly urls: readonly URL[]
  /** Time for one answer of one of them, in milliseconds. */
  readonly timeoutMs: number
  /** PEM: who may have signed their certificates, in place of the system's authorities. */
  readonly ca?: string | undefined
}

/** Reads the chain's storage from whichever node answers. */
export interface ChainClient {
  /**
   * The value of a key; undefined when there is none.
   *
   * @throws {RegistryError} When no node gave one, or the signal's reason.
   */
  value(key: Uint8Array, signal?: AbortSignal): Promise<Uint8Array | undefined>
  /** The values of several keys at one block, in their order. */
  values(
    keys: readonly Uint8Array[],
    signal?: AbortSignal,
  ): Promise<readonly (Uint8Array | undefined)[]>
  /** Begins with another node from now on, as where one lags behind. */
  turn(): void
  /** Ends its connections; a call makes new ones. */
  close(): void
}

/** One call to one node. */
type Ask<T> = (endpoint: Endpoint, signal: AbortSignal) => Promise<T>

export function createChainClient(options: ChainClientOptions): ChainClient {
  const endpoints = options.urls.map((url) =>
    /^wss?:$/.test(url.protocol)
      ? createWebSocketEndpoint(url, options.ca)
      : createHttpEndpoint(url, options.ca),
  )
  const slots = createSlots(AT_ONCE)
  let first = 0
  let lookups = 0

  /** With a deadline of its own. */
  async function callOne<T>(
    endpoint: Endpoint,
    ask: Ask<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const late = new AbortController()
    const timer = setTimeout(() => {
      late.abort(unreachable(endpoint.shown, `no answer within ${options.timeoutMs} ms`))
    }, options.timeoutMs)
    try {
      return await ask(endpoint, signal ? AbortSignal.any([signal, late.signal]) : late.signal)
    } catch (error) {
      // A connection that says nothing may be dead without either side knowing.
      if (late.signal.aborted && !signal?.aborted) endpoint.drop()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  async function call<T>(ask: Ask<T>, signal: AbortSignal | undefined): Promise<T> {
    if (lookups >= MAX_LOOKUPS) {
      throw new RegistryError('REGISTRY_UNREACHABLE', 'Cannot ask the chain: too many lookups wait')
    }
    lookups++
    try {
      const leave = await slots.take(signal)
      return await callInTurn(ask, signal).finally(leave)
    } finally {
      lookups--
    }
  }

  async function callInTurn<T>(ask: Ask<T>, signal: AbortSignal | undefined): Promise<T> {
    const errors: RegistryError[] = []
    for (let tries = 0, at = first; tries < endpoints.length; tries++) {
      try {
        const answer = await callOne(endpoints[at] as Endpoint, ask, signal)
        first = at
        return answer
      } catch (error) {
        signal?.throwIfAborted()
        if (!(error instanceof RegistryError)) throw error
        errors.push(error)
      }
      at = (at + 1) % endpoints.length
    }
    throw allFailed(errors)
  }

  async function someValues(keys: readonly string[], signal: AbortSignal | undefined) {
    return await call(async (endpoint, both) => {
      const result = await endpoint.call('state_queryStorageAt', [keys], both)
      return readChanges(endpoint, keys, result)
    }, signal)
  }

  return {
    value: (key, signal) =>
      call(async (endpoint, both) => {
        const result = await endpoint.call('state_getStorage', [hexOf(key)], both)
        return readValue(endpoint, result)
      }, signal),
    async values(keys, signal) {
      const texts = keys.map(hexOf)
      const found: (Uint8Array | undefined)[] = []
      for (let from = 0; from < texts.length; from += KEYS_AT_ONCE) {
        found.push(...(await someValues(texts.slice(from, from + KEYS_AT_ONCE), signal)))
      }
      return found
    },
    turn() {
      first = (first + 1) % endpoints.length
    },
    close() {
      for (const endpoint of endpoints) endpoint.drop()
    },
  }
}

/** What several nodes failed with, as one error. */
function allFailed(errors: readonly RegistryError[]): RegistryError {
  const reached = errors.find(({ code }) => code !== 'REGISTRY_UNREACHABLE')
  return new RegistryError(
    reached?.code ?? 'REGISTRY_UNREACHABLE',
    `Cannot ask the chain: ${errors.map(messageOf).join('; ')}`,
  )
}

function hexOf(bytes: Uint8Array): string {
  return `0x${toHex(bytes)}`
}

function readValue(endpoint: Endpoint, value: unknown): Uint8Array | undefined {
  if (value === null) return undefined
  if (typeof value !== 'string' || !value.startsWith('0x') || !isHex(value.slice(2))) {
    throw badAnswer(endpoint.shown, 'its answer is no storage value')
  }
  const bytes = new Uint8Array(Buffer.from(value.slice(2), 'hex'))
  // The reference takes an empty value for none.
  return bytes.length === 0 ? undefined : bytes
}

/** Reads `[{ block, changes: [[key, value | null], …] }]`, for one block. */
function readChanges(
  endpoint: Endpoint,
  keys: readonly string[],
  result: unknown,
): readonly (Uint8Array | undefined)[] {
  const [set] = Array.isArray(result) ? result : []
  const changes = (set as { readonly changes?: unknown } | undefined)?.changes
  if (!Array.isArray(changes)) {
    throw badAnswer(endpoint.shown, 'its answer is no list of storage values')
  }
  const values = new Map<unknown, unknown>(changes.filter(Array.isArray) as [unknown, unknown][])
  return keys.map((key) => {
    if (!values.has(key)) throw badAnswer(endpoint.shown, 'its answer leaves a storage value out')
    return readValue(endpoint, values.get(key))
  })
}
