import type { Engine } from '../../../src/engine/engine.ts'
import { isEngineError } from '../../../src/engine/error.ts'
import type { ComposeContext } from '../compose/context.ts'
import type { SupervisorSubnet } from '../compose/supervisor-network.ts'
import type { EngineState } from '../engine-state/engine-state.ts'
import type { LockFolders } from '../locks/folders.ts'
import type { Memory } from '../store/memory.ts'
import type { TargetApp, TargetService } from '../target/model.ts'

/** What steps are done with. */
export interface Hands {
  readonly engine: Engine
  readonly state: EngineState
  readonly memory: Memory
  readonly folders: LockFolders
  readonly context: () => ComposeContext
  readonly subnet: SupervisorSubnet | undefined
  /** The app as it is wanted now. */
  readonly appOf: (appId: number) => TargetApp | undefined
  /** Begins, and does not wait. */
  readonly pull: (image: string) => void
  readonly handoverBegins: (appId: number, serviceName: string) => void
  /** Something is done with a service just now; undefined: no more. */
  readonly doing: (containerId: string, status: 'Starting' | 'Stopping' | undefined) => void
  /** By `serviceKey`: why the container of a service went, until there is a new one. */
  readonly reasons: Map<string, string>
  readonly note: (message: string, level?: 'info' | 'warn') => void
  readonly signal: AbortSignal
}

/** The plan was made for what is not wanted any more. */
export class StaleStep extends Error {
  override readonly name = 'StaleStep'
}

/** @throws {StaleStep} When the target does not name the service any more. */
export function wanted(
  appId: number,
  serviceName: string,
  { appOf }: Hands,
): { readonly app: TargetApp; readonly service: TargetService } {
  const app = appOf(appId)
  const service = app?.services.find((one) => one.serviceName === serviceName)
  if (app && service) return { app, service }
  throw new StaleStep(`${serviceName} is not wanted any more`)
}

/** What is gone already needs no removal. */
export async function unlessGone(work: Promise<unknown>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!isEngineError(error, 'ENGINE_NOT_FOUND')) throw error
  }
}

/** What is there already needs no creation. */
export async function unlessThere(work: Promise<unknown>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!isEngineError(error, 'ENGINE_CONFLICT')) throw error
  }
}
