import { existsSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { defineCommand } from 'citty'
import type { CheckResult } from '../conformance/suite.ts'
import { within } from '../deadline.ts'
import { messageOf } from '../errors.ts'
import { CommandFailed } from './command-failed.ts'
import { jsonArg, out, outJson } from './common.ts'

/** Names tried in a folder; Node itself runs no TypeScript. */
const MODULES = ['index.js', 'index.mjs', 'index.ts'] as const

const LOAD_TIMEOUT_MS = 30_000

const create = defineCommand({
  meta: { name: 'new', description: 'Write a new plugin that works as it is' },
  args: {
    name: { type: 'positional', description: 'Name: [a-z][a-z0-9-]*', required: true },
    dir: { type: 'string', description: 'Folder to put it in', default: '.', valueHint: 'DIR' },
  },
  async run({ args }) {
    const { scaffold } = await import('../external/scaffold.ts')
    const paths = scaffold(args.name, args.dir)
    for (const path of paths) out(path)
    out(`Test it with: cvmd plugin test ${dirname(paths[0] as string)}`)
  },
})

const test = defineCommand({
  meta: { name: 'test', description: 'Test whether a plugin keeps the contract' },
  args: {
    path: { type: 'positional', description: 'The module, or its folder', required: true },
    ...jsonArg,
  },
  async run({ args }) {
    const path = moduleIn(resolve(args.path))
    const results = await testFile(path)
    const failed = results.filter(({ ok }) => !ok).length
    if (args.json) outJson({ path, ok: failed === 0, results })
    else {
      for (const { check, ok, detail } of results) {
        out(`${ok ? 'ok    ' : 'FAILED'} ${check}${detail === '' ? '' : ` (${detail})`}`)
      }
    }
    if (failed > 0) throw new CommandFailed(`${failed} of ${results.length} checks failed`)
    // What the plugin left running must not keep the command.
    process.exit()
  },
})

/** `cvmd plugin new|test`: for authors of plugins. */
export const plugin = defineCommand({
  meta: { name: 'plugin', description: 'Make or test a plugin' },
  subCommands: { new: create, test },
})

function moduleIn(path: string): string {
  if (!existsSync(path)) throw new CommandFailed(`there is no "${path}"`)
  if (!statSync(path).isDirectory()) return path
  const found = MODULES.map((name) => join(path, name)).find(existsSync)
  if (found === undefined) throw new CommandFailed(`no ${MODULES.join(', ')} in "${path}"`)
  return found
}

async function testFile(path: string): Promise<CheckResult[]> {
  const { loadExternal } = await import('../external/load.ts')
  const { testPlugin } = await import('../conformance/suite.ts')
  let plugin: unknown
  try {
    ;({ plugin } = await within(LOAD_TIMEOUT_MS, loadExternal({ path }), 'load'))
  } catch (error) {
    return [{ check: 'the module exports a plugin', ok: false, detail: messageOf(error) }]
  }
  const folder = dirname(path)
  return testPlugin(plugin, existsSync(join(folder, 'README.md')) ? { folder } : {})
}
