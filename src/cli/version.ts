import { defineCommand } from 'citty'
import { runtimeVersion } from '../runtime.ts'
import { VERSION } from '../version.ts'
import { jsonArg, out, outJson } from './common.ts'

/** `cvmd version`. */
export const version = defineCommand({
  meta: { name: 'version', description: 'Print the version' },
  args: jsonArg,
  run({ args }) {
    if (args.json) outJson({ version: VERSION, runtime: runtimeVersion() })
    else out(`cvmd ${VERSION} (${runtimeVersion()})`)
  },
})
