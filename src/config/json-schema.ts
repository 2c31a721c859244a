import { toJsonSchema } from '@valibot/to-json-schema'
import type * as v from 'valibot'
import type { AnyPlugin } from '../plugin.ts'
import { CoreConfig } from './schema.ts'

type Json = Record<string, unknown>

/**
 * JSON Schema (draft-07) of the configuration file, made from the schemas that check it: the
 * core's tables and one table per plugin, with `enabled` beside the plugin's own keys.
 */
export function configSchema(plugins: readonly AnyPlugin[]): Json {
  const core = convert(CoreConfig)
  const properties: Json = {}
  for (const plugin of plugins) {
    const table = convert(plugin.config)
    properties[plugin.name] = {
      ...table,
      description: plugin.summary,
      properties: {
        enabled: {
          enum: [true, false, 'auto'],
          default: 'auto',
          description: 'auto follows the hardware; true makes a missing requirement fatal',
        },
        ...(table.properties as Json),
      },
    }
  }
  const coreProperties = core.properties as Json
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'cvmd configuration',
    ...core,
    properties: {
      ...coreProperties,
      plugins: { type: 'object', additionalProperties: false, properties },
    },
  }
}

/** Input side of a schema: what a person writes, before transformations. */
function convert(schema: v.GenericSchema): Json {
  const { $schema: _, ...rest } = toJsonSchema(schema, { typeMode: 'input', errorMode: 'ignore' })
  return rest as Json
}
