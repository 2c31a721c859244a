import { within } from './deadline.ts'
import { messageOf } from './errors.ts'
import { makeFolder } from './files/make-folder.ts'
import type { SetUpPlugin } from './setup.ts'

/** A plugin that did not start, with what it threw as the cause. */
export class StartError extends Error {
  override readonly name = 'StartError'
  readonly plugin: string

  constructor(plugin: string, cause: unknown) {
    super(`Cannot start plugin "${plugin}": ${messageOf(cause)}`, { cause })
    this.plugin = plugin
  }
}

/**
 * Starts one plugin: makes its state folder, then runs `start` with a deadline. Its routes answer
 * from then on.
 *
 * @throws {StartError} After having stopped what half started.
 */
export async function startPlugin(loaded: SetUpPlugin, timeoutMs: number): Promise<void> {
  try {
    makeFolder(loaded.stateDir, 0o700)
    await within(timeoutMs, loaded.instance.start?.(), 'start')
    loaded.metrics.publish()
    loaded.unavailable = undefined
  } catch (cause) {
    loaded.unavailable = messageOf(cause)
    await stopPlugin(loaded, timeoutMs)
    loaded.unavailable = messageOf(cause)
    throw new StartError(loaded.plugin.name, cause)
  }
}

/** Stops one plugin; whatever it does, this ends by the deadline and never throws. */
export async function stopPlugin(loaded: SetUpPlugin, timeoutMs: number): Promise<void> {
  loaded.unavailable = 'it was stopped'
  loaded.abort.abort()
  loaded.metrics.withdraw()
  try {
    await within(timeoutMs, loaded.instance.stop?.(), 'stop')
  } catch (error) {
    loaded.log.error(`Cannot stop plugin "${loaded.plugin.name}": ${messageOf(error)}`)
  }
}

/** Stops plugins in reverse of the order they started in. */
export async function stopAll(plugins: readonly SetUpPlugin[], timeoutMs: number): Promise<void> {
  for (const loaded of [...plugins].reverse()) await stopPlugin(loaded, timeoutMs)
}
