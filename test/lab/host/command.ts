import { spawnSync } from 'node:child_process'

/** What may be said about a command. */
export interface CommandOptions {
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
}

/**
 * Runs a program to its end.
 *
 * @returns What it wrote to its standard output.
 * @throws {Error} With everything it wrote, when it fails.
 */
export function command(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): string {
  const { status, error, stdout, stderr } = run(program, args, options)
  if (status === 0) return stdout.toString()
  const what = `${program} ${args.slice(0, 4).join(' ')}`
  throw error ?? new Error(`${what} ended with status ${status}:\n${stdout}${stderr}`)
}

/** The same for a program whose output is bytes. */
export function commandBytes(program: string, args: readonly string[]): Uint8Array {
  const { status, error, stdout, stderr } = run(program, args, {})
  if (status === 0) return stdout
  throw error ?? new Error(`${program} ended with status ${status}: ${stderr}`)
}

function run(program: string, args: readonly string[], options: CommandOptions) {
  return spawnSync(program, args, { ...options, maxBuffer: 64 * 1024 * 1024 })
}
