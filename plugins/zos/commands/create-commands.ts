import { printJson } from '../json/print.ts'
import { RegistryError } from '../registry/registry.ts'
import { ZosError } from '../zos-error.ts'
import type { Call, Commands } from './command.ts'
import { debugCommands } from './debug-commands.ts'
import { deploymentCommands } from './deployment-commands.ts'
import { networkCommands } from './network-commands.ts'
import { nodeCommands } from './node-commands.ts'
import type { Command, CommandParts } from './parts.ts'

/** Guards that stand before a whole branch, so that strangers cannot ask what is in it (§1.1). */
const GUARDED = [
  { prefix: 'zos.admin.', caller: 'farmer' },
  { prefix: 'zos.network.admin.', caller: 'farmer' },
  { prefix: 'zos.debug.', caller: 'admin' },
] as const

const MAX_MESSAGE = 4096

/** All commands of spec §1. */
export function createCommands(parts: CommandParts): Commands {
  const table = new Map<string, Command>(
    Object.entries({
      ...deploymentCommands(parts),
      ...nodeCommands(parts),
      ...networkCommands(parts),
      ...debugCommands(parts),
    }),
  )
  const classOf = (name: string) =>
    GUARDED.find(({ prefix }) => name.startsWith(prefix))?.caller ?? table.get(name)?.caller
  return {
    classOf,
    names: () => [...table.keys()],
    async dispatch(call) {
      try {
        const caller = classOf(call.command)
        if (caller !== undefined && caller !== 'any') await admit(call, caller, parts)
        const command = table.get(call.command)
        if (!command) throw new ZosError('not-found', 'function is not found')
        const { twin = 0, payload, signal } = call
        return printJson((await command.answer({ twin, payload, signal })) ?? null)
      } catch (error) {
        throw toZosError(error)
      }
    },
  }
}

async function admit(
  { twin, signal }: Call,
  caller: 'owner' | 'farmer' | 'admin',
  { registry }: CommandParts,
): Promise<void> {
  if (twin === undefined) {
    throw new ZosError(
      'authentication',
      'this command needs the twin that calls: sign the request, see the README',
    )
  }
  if (caller === 'owner') return
  const allowed =
    caller === 'farmer'
      ? (await registry.farmerTwin(signal)) === twin
      : registry.adminTwins().includes(twin)
  if (!allowed) throw new ZosError('forbidden', 'unauthorized')
}

/** Nothing but a {@link ZosError} leaves; what nobody expected is told as the reference does. */
function toZosError(error: unknown): ZosError {
  if (error instanceof ZosError) return error
  if (error instanceof RegistryError) {
    return new ZosError('unavailable', error.message, { cause: error })
  }
  const text = error instanceof Error ? error.message : String(error)
  return new ZosError('failed', `handler panicked with: ${text.slice(0, MAX_MESSAGE)}`, {
    cause: error,
  })
}
