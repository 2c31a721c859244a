import { defineCommand } from 'citty'
import { ConfigError, formatIssue } from '../config/toml.ts'
import { prepare } from '../prepare.ts'
import { CommandFailed } from './command-failed.ts'
import { configArgs, jsonArg, out, outJson } from './common.ts'
import { prepareOptions } from './prepare-options.ts'

/** `cvmd check`: reads and checks the configuration and starts nothing. */
export const check = defineCommand({
  meta: { name: 'check', description: 'Check the configuration without starting anything' },
  args: { ...configArgs, ...jsonArg },
  async run({ args }) {
    try {
      const { resolved, externals } = await prepare(prepareOptions(args))
      const failed = externals.flatMap((result) => ('error' in result ? [result.error] : []))
      const warnings = [...resolved.warnings, ...failed]
      if (args.json) outJson({ ok: failed.length === 0, issues: [], warnings })
      else {
        for (const warning of warnings) out(`warning: ${warning}`)
        out(`${resolved.source.file}: ok`)
      }
      if (failed.length > 0) throw new CommandFailed('an external plugin cannot be loaded', 78)
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      if (args.json) outJson({ ok: false, issues: error.issues, warnings: [] })
      else for (const issue of error.issues) out(formatIssue(error.file, issue))
      const count = error.issues.length
      throw new CommandFailed(`${count} ${count === 1 ? 'problem' : 'problems'} found`, 78)
    }
  },
})
