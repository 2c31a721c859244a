import { createHash } from 'node:crypto'
import { messageOf } from '../../../../src/errors.ts'
import { Listeners } from '../listeners.ts'
import type { Registry } from '../registry.ts'
import type { ChainClient } from './chain-client.ts'
import { decodeContractIds } from './records.ts'
import { STORAGE } from './storage-key.ts'

/** Contracts whose state is looked at; of more than these only that they are there. */
const MAX_WATCHED = 5000

/** How soon it is tried again after a failure, in milliseconds, where the interval is longer. */
const RETRY_MS = 10_000

export interface ChainWatchOptions {
  readonly client: ChainClient
  readonly pollMs: number
  /** The id of this node. */
  node(signal: AbortSignal): Promise<number>
  readonly report: ((problem: string | undefined) => void) | undefined
}

export interface ChainWatch extends Pick<Registry, 'onChange' | 'notReady'> {
  start(): void
  stop(): void
}

/**
 * Looks at the node's contracts once in a while and tells when anything about them is new, and
 * after a time in which they could not be seen.
 */
export function createChainWatch(options: ChainWatchOptions): ChainWatch {
  const { client, pollMs, report } = options
  const listeners = new Listeners()
  let ended: AbortController | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  let seen: string | undefined
  let problem: string | undefined = 'the chain was not asked yet'
  let reported = false

  /** What there is to see, in a few bytes. */
  async function look(signal: AbortSignal): Promise<string> {
    const node = await options.node(signal)
    const lists = await client.values(
      [STORAGE.activeContracts(node), STORAGE.rentContract(node)],
      signal,
    )
    const ids = lists[0] ? decodeContractIds(lists[0]) : []
    const contracts = await client.values(ids.slice(0, MAX_WATCHED).map(STORAGE.contract), signal)
    const hash = createHash('sha256')
    for (const value of [...lists, ...contracts]) {
      hash.update(`${value?.length ?? 'none'}:`).update(value ?? new Uint8Array())
    }
    return hash.digest('hex')
  }

  async function poll(signal: AbortSignal): Promise<void> {
    let changed = false
    try {
      const found = await look(signal)
      changed = found !== seen || problem !== undefined
      seen = found
      problem = undefined
      if (reported) report?.(undefined)
      reported = false
    } catch (error) {
      if (signal.aborted) return
      problem = messageOf(error)
      if (!reported) report?.(problem)
      reported = true
    }
    if (signal.aborted) return
    timer = setTimeout(() => poll(signal), problem ? Math.min(RETRY_MS, pollMs) : pollMs)
    timer.unref()
    if (changed) listeners.tell()
  }

  return {
    onChange: listeners.add,
    notReady: () => problem,
    start() {
      if (ended) return
      ended = new AbortController()
      poll(ended.signal)
    },
    stop() {
      ended?.abort(new Error('the registry stops'))
      ended = undefined
      clearTimeout(timer)
    },
  }
}
