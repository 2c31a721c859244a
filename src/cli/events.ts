import { defineCommand } from 'citty'
import { FollowError, type Followed, followEvents, formatEvent } from '../events/follow.ts'
import { type ClientRequest, clientArgs, findSocket, unixClient } from './client.ts'
import { CommandFailed } from './command-failed.ts'
import { configArgs, jsonArg, out } from './common.ts'

/** `cvmd events`: the event log of the running daemon, one line per event. */
export const events = defineCommand({
  meta: { name: 'events', description: 'Print the events of the running daemon' },
  args: {
    follow: { type: 'boolean', alias: 'f', description: 'Go on with new events', default: false },
    after: { type: 'string', description: 'Only events after this number', valueHint: 'SEQ' },
    source: { type: 'string', description: 'Only events of this source', valueHint: 'NAME' },
    level: { type: 'string', description: 'Only events of this level or above' },
    contains: { type: 'string', description: 'Only events with this text', valueHint: 'TEXT' },
    config: configArgs.config,
    ...clientArgs,
    ...jsonArg,
  },
  async run({ args }) {
    const client = unixClient(findSocket(args))
    const after = args.after === undefined ? undefined : Number(args.after)
    if (after !== undefined && !Number.isSafeInteger(after)) {
      throw new CommandFailed(`--after wants a number, not "${args.after}"`)
    }
    const stream = followEvents((path, init) => client(path, init as ClientRequest), {
      follow: args.follow,
      ...(after !== undefined && { after }),
      ...(args.source !== undefined && { source: args.source }),
      ...(args.level !== undefined && { level: args.level }),
      ...(args.contains !== undefined && { contains: args.contains }),
    })
    try {
      for await (const item of stream) out(args.json ? JSON.stringify(item) : line(item))
    } catch (error) {
      if (error instanceof FollowError) throw new CommandFailed(error.message)
      throw error
    }
  },
})

function line(item: Followed): string {
  if (item.type === 'event') return formatEvent(item.event)
  if (item.type === 'gap') return `-- events ${item.gap.from} to ${item.gap.to} were dropped --`
  return '-- the daemon began a new log --'
}
