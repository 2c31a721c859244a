import { defineCommand } from 'citty'
import { configSchema } from '../config/json-schema.ts'
import { prepare } from '../prepare.ts'
import { configArgs, outJson } from './common.ts'
import { prepareOptions } from './prepare-options.ts'

/** `cvmd schema`: JSON Schema of the configuration for exactly the plugins present. */
export const schema = defineCommand({
  meta: { name: 'schema', description: 'Print the JSON Schema of the configuration file' },
  args: configArgs,
  async run({ args }) {
    const { resolved } = await prepare(prepareOptions(args))
    outJson(configSchema(resolved.plugins.map(({ plugin }) => plugin)))
  },
})
