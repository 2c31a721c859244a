import type { Engine } from '../../../../src/engine/engine.ts'
import { isEngineError } from '../../../../src/engine/error.ts'
import { OWNER_LABEL, WORKLOAD_LABEL } from '../names.ts'

/** What of a machine was asked for, as a hash: another one is another machine. */
export const HASH_LABEL = 'org.cvmd.zos.hash'

/** `zmachine` or `zmachine-light`. */
export const TYPE_LABEL = 'org.cvmd.zos.type'

/** The engine network a machine is on: a stopped machine is in no list of its network. */
export const NETWORK_LABEL = 'org.cvmd.zos.network'

/** What an object of the engine carries. */
export type Labels = Readonly<Record<string, string>>

/** Whether an object is of this node. */
export function isOurs(labels: Labels, owner: string): boolean {
  return labels[OWNER_LABEL] === owner && labels[WORKLOAD_LABEL] !== undefined
}

/** In the form of the engine's filter. */
export function label(name: string, value: string): string {
  return `${name}=${value}`
}

/** Resolves also where the object is not there. */
export async function unlessGone(work: Promise<unknown>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!isEngineError(error, 'ENGINE_NOT_FOUND')) throw error
  }
}

/**
 * Removes machines of this node, whatever state they are in, with their anonymous volumes.
 *
 * @param labels Beside the owner's.
 */
export async function removeMachines(
  { containers }: Engine,
  owner: string,
  labels: readonly string[],
  options: {
    readonly signal?: AbortSignal
    /** Default: all. */
    readonly only?: (labels: Labels) => boolean
    /** Given to a running one to end by itself. Default: none. */
    readonly stopSeconds?: number
  } = {},
): Promise<void> {
  const { signal, only = () => true, stopSeconds = 0 } = options
  const found = await containers.list({ labels: [label(OWNER_LABEL, owner), ...labels], signal })
  for (const { Id, State, Labels } of found) {
    if (!isOurs(Labels, owner) || !only(Labels)) continue
    if (State === 'running' && stopSeconds > 0) {
      await unlessGone(containers.stop(Id, { seconds: stopSeconds, signal }))
    }
    await unlessGone(removeOne(Id))
  }

  async function removeOne(id: string): Promise<void> {
    try {
      await containers.remove(id, { force: true, volumes: true, signal })
    } catch (error) {
      if (!isEngineError(error, 'ENGINE_CONFLICT')) throw error
      // Another removal is on its way, such as one that a crash of ours left behind.
      await containers.wait(id, { until: 'removed', deadlineMs: GONE_MS, signal })
    }
  }
}

/** For a removal that somebody else began. */
const GONE_MS = 60_000
