import { DEFAULT_CONFIG_FILE } from '../config/paths.ts'

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

/** Writes to standard output. */
export function out(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** Writes a value as indented JSON. */
export function outJson(value: unknown): void {
  out(JSON.stringify(value, null, 2))
}
