import { defineCommand } from 'citty'
import { clientArgs, failureText, findSocket, unixClient } from './client.ts'
import { CommandFailed } from './command-failed.ts'
import { configArgs, jsonArg, out, outJson } from './common.ts'

/** `cvmd reload`: has the running daemon read its configuration again, and says what came of it. */
export const reload = defineCommand({
  meta: { name: 'reload', description: 'Have the running daemon read its configuration again' },
  args: { config: configArgs.config, ...clientArgs, ...jsonArg },
  async run({ args }) {
    const fetch = unixClient(findSocket(args))
    const response = await fetch('/cvmd/reload', { method: 'POST' })
    if (!response.ok) {
      throw new CommandFailed(await failureText(response), response.status === 422 ? 78 : 1)
    }
    const report = (await response.json()) as Record<string, readonly string[]>
    if (args.json) return outJson(report)
    for (const [what, names] of Object.entries(report)) {
      if (names.length > 0) out(`${what}: ${names.join(', ')}`)
    }
  },
})
