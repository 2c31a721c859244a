import { existsSync } from 'node:fs'
import { builtins } from '../../plugins/index.ts'
import { DEFAULT_CONFIG_FILE } from '../config/paths.ts'
import type { PrepareOptions } from '../prepare.ts'
import { CommandFailed } from './command-failed.ts'

/** Arguments of every command that reads the configuration. */
export const configArgs = {
  config: {
    type: 'string',
    description: `Configuration file (default ${DEFAULT_CONFIG_FILE} if it is there)`,
    valueHint: 'FILE',
  },
  root: {
    type: 'string',
    description: 'Folder that stands for / when the machine is probed',
    default: '/',
    valueHint: 'DIR',
  },
  simulate: {
    type: 'string',
    description: 'Stand-in device for development: tdx or nitro. It protects nothing',
    valueHint: 'PLATFORM',
  },
} as const

export const jsonArg = {
  json: { type: 'boolean', description: 'Print JSON', default: false },
} as const

/** What `--config` and `--root` mean for preparing a configuration. */
export function prepareOptions(args: {
  readonly config?: string | undefined
  readonly root?: string | undefined
  readonly simulate?: string | undefined
}): PrepareOptions {
  const { simulate } = args
  if (simulate !== undefined && simulate !== 'tdx' && simulate !== 'nitro') {
    throw new CommandFailed(`cannot simulate "${simulate}": expected tdx or nitro`)
  }
  const file = args.config ?? (existsSync(DEFAULT_CONFIG_FILE) ? DEFAULT_CONFIG_FILE : undefined)
  return { file, root: args.root ?? '/', simulate, env: process.env, builtins }
}

/** Writes to standard output. */
export function out(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** Writes a value as indented JSON. */
export function outJson(value: unknown): void {
  out(JSON.stringify(value, null, 2))
}
