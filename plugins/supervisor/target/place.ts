import * as v from 'valibot'
import { MAX_NAME, MAX_PROBLEMS } from './limits.ts'
import type { TargetIssue, TargetWarning } from './model.ts'

/** A JSON object whose members nobody looked at yet. */
export type JsonObject = Readonly<Record<string, unknown>>

/** What was found wrong while a target was read; bounded. */
export class Problems {
  readonly issues: TargetIssue[] = []
  readonly warnings: TargetWarning[] = []
}

/** A place in a target state, at which problems are reported. No message quotes a value. */
export class Place {
  readonly path: string
  readonly #problems: Problems

  constructor(problems: Problems, path = '') {
    this.#problems = problems
    this.path = path
  }

  /** A member, or an element. */
  in(key: string | number): Place {
    const part = String(key).slice(0, MAX_NAME)
    return new Place(this.#problems, this.path === '' ? part : `${this.path}.${part}`)
  }

  /** The target cannot be used. */
  issue(message: string): undefined {
    push(this.#problems.issues, { path: this.path, message })
  }

  /** What stands here is left out, or has another effect than it says. */
  warn(message: string): undefined {
    push(this.#problems.warnings, { path: this.path, message })
  }

  /** What the schema makes of the value; undefined after its issues were reported. */
  read<Schema extends v.GenericSchema>(
    value: unknown,
    schema: Schema,
  ): v.InferOutput<Schema> | undefined {
    const result = v.safeParse(schema, value)
    if (result.success) return result.output
    for (const issue of result.issues) {
      const path = v.getDotPath(issue)
      const place = path === null ? this : this.in(path)
      place.issue(issue.message)
    }
    return undefined
  }

  /** The value if it is a JSON object with at most `most` members. */
  object(value: unknown, most: number): JsonObject | undefined {
    if (!isObject(value)) return this.issue('must be an object')
    const count = Object.keys(value).length
    if (count > most) return this.issue(`has ${count} members, at most ${most} are allowed`)
    return value
  }
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function push<T extends TargetIssue>(list: T[], problem: T): void {
  if (list.length < MAX_PROBLEMS) list.push(problem)
}
