import { existsSync } from 'node:fs'
import { builtins } from '../../plugins/index.ts'
import { DEFAULT_CONFIG_FILE } from '../config/paths.ts'
import type { PrepareOptions } from '../prepare.ts'
import { CommandFailed } from './command-failed.ts'

/**
 * What `--config` and `--root` mean for preparing a configuration. In a file of its own, as all plugins
 * come with it: a command that does without them takes half as long.
 */
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
