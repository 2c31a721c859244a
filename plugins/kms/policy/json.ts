import * as v from 'valibot'

/**
 * Reads a JSON object of the given shape.
 *
 * @throws {Error} Why it is none, naming members and never quoting values.
 */
export function parseJson<Schema extends v.GenericSchema>(
  schema: Schema,
  text: string,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, objectOf(text))
  if (result.success) return result.output
  const wrong = result.issues.map((issue) => v.getDotPath(issue) ?? 'the whole')
  throw new Error(`missing or wrong: ${[...new Set(wrong)].slice(0, 10).join(', ')}`)
}

function objectOf(text: string): object {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new Error('it is not JSON')
  }
  // To the schema a list would be an object with nothing in it.
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  throw new Error('it is no JSON object')
}
