import { z } from 'zod'

export type Json = Readonly<Record<string, unknown>>

/** Which side of a schema: what a client sends, or what it receives. */
export type Side = 'input' | 'output'

/**
 * Turns zod schemas into the JSON Schema of one OpenAPI document. A schema that refers to itself or
 * has named parts moves to `components`, because a reference counts from the document's root.
 */
export class SchemaBook {
  /** For `components.schemas`. */
  readonly components: Record<string, Json>

  constructor(components: Readonly<Record<string, Json>>) {
    this.components = { ...components }
  }

  /**
   * Converts a schema. One that cannot be told in JSON Schema, or was made by a version of zod we
   * do not know, is shown as "anything": the document then says too little, never something wrong.
   *
   * @param name Name for `components`, unique in the document.
   */
  convert(schema: z.ZodType, side: Side, name: string): Json {
    const { $schema: _, $defs, ...own } = toJsonSchema(schema, side)
    const text = JSON.stringify({ own, $defs })
    if (!text.includes('"$ref"')) return own
    const key = name.replace(/[^A-Za-z0-9._-]/g, '.')
    const at = (part: string) => `#/components/schemas/${part}`
    const { own: moved, $defs: parts = {} } = JSON.parse(text, (property, value) => {
      if (property !== '$ref' || typeof value !== 'string') return value
      if (value === '#') return at(key)
      return value.replace(/^#\/\$defs\//, at(`${key}.`))
    }) as { own: Json; $defs?: Record<string, Json> }
    for (const [part, value] of Object.entries(parts)) this.components[`${key}.${part}`] = value
    this.components[key] = moved
    return { $ref: at(key) }
  }

  /** What a converted schema says, wherever it stands. */
  resolve(converted: Json): Json {
    const key = String(converted.$ref ?? '').replace('#/components/schemas/', '')
    return this.components[key] ?? converted
  }
}

function toJsonSchema(schema: z.ZodType, side: Side): Json {
  try {
    return z.toJSONSchema(schema, { io: side, unrepresentable: 'any' })
  } catch {
    return {}
  }
}
