import { defineCommand } from 'citty'
import { prepare } from '../prepare.ts'
import { configArgs, jsonArg, out, outJson } from './common.ts'
import { prepareOptions } from './prepare-options.ts'

/** `cvmd plugins`: what this configuration would run on this machine. */
export const plugins = defineCommand({
  meta: { name: 'plugins', description: 'List the plugins and whether they would run here' },
  args: { ...configArgs, ...jsonArg },
  async run({ args }) {
    const { resolved, externals } = await prepare(prepareOptions(args))
    const rows = [
      ...resolved.plugins.map(({ plugin, state, reason, requires }) => ({
        name: plugin.name,
        state: state as string,
        summary: plugin.summary,
        reason,
        requires: requires ?? null,
        exposure: plugin.exposure ?? 'local',
      })),
      ...externals.flatMap((result) =>
        'error' in result
          ? [
              {
                name: result.file.path,
                state: 'failed',
                summary: '',
                reason: result.error,
                requires: null,
                exposure: 'local',
              },
            ]
          : [],
      ),
    ]
    if (args.json) return outJson({ plugins: rows })
    for (const { name, state, summary, reason } of rows) {
      out(`${name.padEnd(12)} ${state.padEnd(12)} ${reason === '' ? summary : reason}`)
    }
  },
})
