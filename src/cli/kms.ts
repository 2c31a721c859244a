import { defineCommand } from 'citty'
import { type ClientRequest, clientArgs, failureText, findSocket, unixClient } from './client.ts'
import { CommandFailed } from './command-failed.ts'
import { configArgs, jsonArg, out, outJson } from './common.ts'

/** What `GET /cvmd/kms` answers. */
interface Status {
  readonly mode: string
  readonly reason: string | null
  readonly address: string | null
  readonly domain: string | null
  readonly versions: readonly {
    readonly version: number
    readonly current: boolean
    readonly k256_public_key: string
    readonly ca_fingerprint: string
    readonly ca_not_after: string
  }[]
  readonly requests: readonly {
    readonly method: string
    readonly outcome: string
    readonly reason: string
    readonly count: number
  }[]
}

/** What the routes that change something answer. */
interface Changed {
  readonly current: number
  readonly versions: readonly number[]
  readonly version?: number
  readonly added?: readonly number[]
}

const common = { config: configArgs.config, ...clientArgs, ...jsonArg } as const

interface CommonArgs {
  readonly socket?: string | undefined
  readonly config?: string | undefined
}

const status = defineCommand({
  meta: { name: 'status', description: 'Show what the KMS is doing, and its root keys' },
  args: common,
  async run({ args }) {
    const found = await ask<Status>(args, '/cvmd/kms')
    if (args.json) return outJson(found)
    for (const line of statusLines(found)) out(line)
  },
})

const rotate = defineCommand({
  meta: { name: 'rotate', description: 'Make root keys of the next version, and use them' },
  args: {
    prepare: {
      type: 'boolean',
      description: 'Only make them: give clients their certificate first, then `cvmd kms use`',
      default: false,
    },
    ...common,
  },
  async run({ args }) {
    const { prepare } = args
    const done = await change(args, '/cvmd/kms/rotate', { prepare })
    if (args.json) return outJson(done)
    out(`made root keys of version ${done.version}; ${versionText(done)}`)
  },
})

const use = defineCommand({
  meta: { name: 'use', description: 'Use another version of the root keys' },
  args: {
    version: {
      type: 'positional',
      description: 'One that `cvmd kms status` shows',
      required: true,
    },
    ...common,
  },
  async run({ args }) {
    if (!/^\d{1,3}$/.test(args.version)) {
      throw new CommandFailed(`a version is a number from 0 on, not "${args.version}"`)
    }
    const done = await change(args, '/cvmd/kms/use', { version: Number(args.version) })
    if (args.json) return outJson(done)
    out(versionText(done))
  },
})

const sync = defineCommand({
  meta: { name: 'sync', description: 'Take the versions that another KMS of the cluster has' },
  args: {
    url: { type: 'positional', description: 'https://HOST:PORT', required: true },
    ...common,
  },
  async run({ args }) {
    const done = await change(args, '/cvmd/kms/sync', { source_url: args.url })
    if (args.json) return outJson(done)
    const { added = [] } = done
    const what = added.length === 0 ? 'nothing new' : `took version ${added.join(', ')}`
    out(`${what}; ${versionText(done)}`)
  },
})

/** `cvmd kms status|rotate|use|sync`: the root keys of a KMS, over the operator's socket. */
export const kms = defineCommand({
  meta: { name: 'kms', description: 'Show, rotate and share the root keys of a KMS' },
  subCommands: { status, rotate, use, sync },
})

function change(args: CommonArgs, path: string, body: object): Promise<Changed> {
  return ask(args, path, { method: 'POST', body: JSON.stringify(body) })
}

async function ask<Answer>(
  args: CommonArgs,
  path: string,
  request: ClientRequest = {},
): Promise<Answer> {
  const response = await unixClient(findSocket(args))(path, request)
  if (response.ok) return (await response.json()) as Answer
  const text = await failureText(response)
  // The daemon has no such route unless the plugin is a KMS for others.
  const hint = '; is role = "server" in [plugins.kms]?'
  throw new CommandFailed(`${text}${response.status === 404 && isUnrouted(text) ? hint : ''}`)
}

const isUnrouted = (text: string): boolean => text.includes('/cvmd/kms')

const versionText = ({ current, versions }: Changed): string =>
  `version ${current} is used, of ${versions.join(', ')}`

function* statusLines({ mode, reason, address, domain, versions, requests }: Status) {
  yield `mode      ${mode}${reason === null ? '' : ` (${reason})`}`
  if (address !== null) yield `address   ${address}`
  if (domain !== null) yield `domain    ${domain}`
  for (const one of versions) {
    yield `version   ${one.version}${one.current ? ' (current)' : ''}`
    yield `  k256    ${one.k256_public_key}`
    yield `  CA      sha256 ${one.ca_fingerprint}, until ${one.ca_not_after.slice(0, 10)}`
  }
  for (const { method, outcome, reason: why, count } of requests) {
    yield `requests  ${method} ${outcome}${why === '' ? '' : ` (${why})`}: ${count}`
  }
}
