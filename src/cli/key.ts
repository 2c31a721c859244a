import { join } from 'node:path'
import { defineCommand } from 'citty'
import { KeyStore } from '../auth/keys.ts'
import { makeFolder } from '../files/make-folder.ts'
import { prepare } from '../prepare.ts'
import { CommandFailed } from './command-failed.ts'
import { configArgs, jsonArg, out, outJson } from './common.ts'
import { prepareOptions } from './prepare-options.ts'

async function keyStore(args: { readonly config?: string | undefined }): Promise<KeyStore> {
  const { resolved } = await prepare(prepareOptions(args))
  const { stateDir } = resolved.paths
  makeFolder(stateDir, 0o700)
  const store = new KeyStore(join(stateDir, 'keys.json'))
  store.load()
  return store
}

const config = { config: configArgs.config } as const

const add = defineCommand({
  meta: { name: 'add', description: 'Make an API key; it is printed once and never again' },
  args: {
    name: { type: 'positional', description: 'Name shown in logs and audit', required: true },
    scope: {
      type: 'string',
      description: 'Scopes, separated by commas: events:read,actions:run:NAME,…',
      required: true,
      valueHint: 'SCOPES',
    },
    'expires-days': { type: 'string', description: 'Days until it ends', valueHint: 'N' },
    ...config,
    ...jsonArg,
  },
  async run({ args }) {
    const scopes = args.scope.split(',').map((scope) => scope.trim())
    const days = args['expires-days'] === undefined ? undefined : Number(args['expires-days'])
    if (days !== undefined && !(days > 0)) {
      throw new CommandFailed(
        `--expires-days wants a positive number, not "${args['expires-days']}"`,
      )
    }
    const store = await keyStore(args)
    const expiresInS = days === undefined ? undefined : days * 86_400
    const { token, key } = await store.add({ name: args.name, scopes, expiresInS })
    if (args.json) outJson({ token, ...key })
    else out(token)
  },
})

const list = defineCommand({
  meta: { name: 'list', description: 'List the API keys' },
  args: { ...config, ...jsonArg },
  async run({ args }) {
    const keys = (await keyStore(args)).list()
    if (args.json) return outJson({ keys })
    for (const { id, name, scopes, expires } of keys) {
      out(`${id}  ${name.padEnd(20)} ${scopes.join(',')}${expires ? `  until ${expires}` : ''}`)
    }
  },
})

const remove = defineCommand({
  meta: { name: 'remove', description: 'Withdraw an API key' },
  args: {
    name: { type: 'positional', description: 'Name or id of the key', required: true },
    ...config,
  },
  async run({ args }) {
    await (await keyStore(args)).remove(args.name)
  },
})

/** `cvmd key add|list|remove`: scoped API keys, stored hashed in the state directory. */
export const key = defineCommand({
  meta: { name: 'key', description: 'Manage API keys' },
  subCommands: { add, list, remove },
})
