import { type CommandDef, defineCommand, renderUsage, runCommand } from 'citty'
import { ConfigError } from '../config/toml.ts'
import { errnoOf, messageOf } from '../errors.ts'
import { EXIT, ListenError } from '../http/listen.ts'
import { VERSION } from '../version.ts'
import { CommandFailed } from './command-failed.ts'

/** Any command; each has arguments of its own. */
// biome-ignore lint/suspicious/noExplicitAny: citty's CommandDef is invariant in its arguments
type Command = CommandDef<any>

/** Every subcommand; loaded when used, so that the daemon starts without the tools' code. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  serve: async () => (await import('./serve.ts')).serve,
  check: async () => (await import('./check.ts')).check,
  doctor: async () => (await import('./doctor.ts')).doctor,
  plugins: async () => (await import('./plugins.ts')).plugins,
  schema: async () => (await import('./schema.ts')).schema,
  permissions: async () => (await import('./permissions.ts')).permissions,
  events: async () => (await import('./events.ts')).events,
  key: async () => (await import('./key.ts')).key,
  kms: async () => (await import('./kms.ts')).kms,
  reload: async () => (await import('./reload.ts')).reload,
  verify: async () => (await import('./verify.ts')).verify,
  plugin: async () => (await import('./plugin.ts')).plugin,
  version: async () => (await import('./version.ts')).version,
}

/** Where the usual 1 would say something else: that evidence was rejected. */
const BAD_FLAG_EXIT: Readonly<Record<string, number>> = { verify: 2 }

const root = defineCommand({
  meta: {
    name: 'cvmd',
    version: VERSION,
    description: 'The daemon between a confidential VM and the people and programs around it',
  },
  subCommands: COMMANDS,
})

/**
 * Runs the command line and sets the exit status. Without a subcommand it serves, so that
 * `cvmd --config FILE` works as system-api's command line does.
 */
export async function main(argv: readonly string[]): Promise<void> {
  // Whoever read the output has gone, as `head` does: nothing is left to be said.
  process.stdout.on('error', (error) => {
    if (errnoOf(error) === 'EPIPE' && argv[0] !== undefined && argv[0] !== 'serve') process.exit()
  })
  try {
    await run(argv.map(longFlag))
  } catch (error) {
    process.stderr.write(`cvmd: ${messageOf(error)}\n`)
    process.exitCode = exitCodeOf(error)
    // A listener or timer may still be there after a failed start.
    process.exit()
  }
}

async function run(argv: readonly string[]): Promise<void> {
  const [first] = argv
  if (first === '--help' || first === '-h' || first === 'help') return print(root)
  if (first === '--version' || first === '-v') {
    process.stdout.write(`cvmd ${VERSION}\n`)
    return
  }
  const named = first !== undefined && Object.hasOwn(COMMANDS, first)
  if (!named && first !== undefined && !first.startsWith('-')) {
    throw new CommandFailed(`there is no command "${first}", see cvmd --help`)
  }
  const name = named ? first : 'serve'
  const rest = named ? argv.slice(1) : [...argv]
  let command = await (COMMANDS[name] as () => Promise<Command>)()
  let parent: Command = root
  const sub = (command.subCommands as Record<string, Command> | undefined)?.[rest[0] ?? '']
  if (sub) {
    parent = command
    command = sub
    rest.shift()
  }
  if (rest.includes('--help') || rest.includes('-h')) return print(command, parent)
  if (command.run === undefined) return print(command, parent)
  refuseUnknownFlags(command, rest, BAD_FLAG_EXIT[name])
  await runCommand(command, { rawArgs: rest })
}

/** Go's flag package takes one dash for long flags; so do we. */
function longFlag(arg: string): string {
  return /^-[a-z][a-z-]/.test(arg) ? `-${arg}` : arg
}

function refuseUnknownFlags(command: Command, args: readonly string[], exitCode = 1): void {
  const known = new Set(Object.keys((command.args as Record<string, unknown> | undefined) ?? {}))
  const aliases = Object.values((command.args ?? {}) as Record<string, { alias?: string }>)
  for (const { alias } of aliases) if (alias) known.add(alias)
  for (const arg of args) {
    if (!/^--?[a-z]/i.test(arg)) continue
    const name = arg.replace(/^--?/, '').replace(/=.*$/, '')
    if (!known.has(name) && !known.has(name.replace(/^no-/, ''))) {
      throw new CommandFailed(`there is no flag "${arg}", see --help`, exitCode)
    }
  }
}

async function print(command: Command, parent?: Command): Promise<void> {
  process.stdout.write(`${await renderUsage(command, parent)}\n`)
}

function exitCodeOf(error: unknown): number {
  if (error instanceof ConfigError) return EXIT.config
  if (error instanceof ListenError || error instanceof CommandFailed) return error.exitCode
  return EXIT.failed
}
