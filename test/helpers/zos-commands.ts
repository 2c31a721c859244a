import type { Call, Commands } from '../../plugins/zos/commands/command.ts'
import { ZosError } from '../../plugins/zos/zos-error.ts'

/** Commands of a test: handlers by name, and what was called. */
export interface TestCommands extends Commands {
  readonly calls: readonly Omit<Call, 'signal'>[]
}

export function testCommands(
  handlers: Readonly<Record<string, (call: Call) => string | Promise<string>>>,
): TestCommands {
  const calls: Omit<Call, 'signal'>[] = []
  return {
    calls,
    names: () => Object.keys(handlers),
    classOf: (command) => (command in handlers ? 'any' : undefined),
    async dispatch(call) {
      const { command, twin, payload } = call
      calls.push({ command, twin, payload })
      const handler = handlers[command]
      if (!handler) throw new ZosError('not-found', 'function is not found')
      return await handler(call)
    },
  }
}

export interface TestLog {
  readonly lines: readonly string[]
  debug(message: string): void
  info(message: string): void
  warn(message: string): void
  error(message: string): void
}

export function testLog(): TestLog {
  const lines: string[] = []
  const keep = (level: string) => (message: string) => void lines.push(`${level} ${message}`)
  return {
    lines,
    debug: keep('debug'),
    info: keep('info'),
    warn: keep('warn'),
    error: keep('error'),
  }
}
