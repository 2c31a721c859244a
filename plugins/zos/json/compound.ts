import { type Decoding, type Form, mismatch } from './form.ts'
import type { JsonNode } from './node.ts'

/** A member's name on the wire and its form. */
export type Fields<T> = { readonly [K in keyof T]-?: readonly [wire: string, form: Form<T[K]>] }

interface Field {
  readonly key: string
  readonly wire: string
  readonly form: Form<unknown>
}

/**
 * An object with known members. Their names are matched in any case, unknown ones are ignored; of
 * two the last counts.
 *
 * @param goType With its package: `zos.Peer`. Anything else has no name, as Go's `struct {…}`.
 */
export function struct<T extends object>(goType: string, fields: Fields<T>): Form<T> {
  const byName = new Map<string, Field>()
  const zero: Record<string, unknown> = {}
  for (const [key, [wire, form]] of Object.entries<Fields<T>[keyof T]>(fields)) {
    byName.set(wire.toLowerCase(), { key, wire, form: form as Form<unknown> })
    zero[key] = form.zero
  }
  const name = /^\w+\.(\w+)$/.exec(goType)?.[1] ?? ''
  return {
    goType,
    zero: zero as T,
    read(node, state, before) {
      if (node.kind === 'null') return before
      if (node.kind !== 'object') {
        mismatch(state, goType, node.kind)
        return before
      }
      const values = { ...before } as Record<string, unknown>
      const outer = state.struct
      for (const member of node.members) {
        const field = byName.get(folded(member.name))
        if (field === undefined) continue
        state.struct = name
        values[field.key] = within(state, field, member.value, values[field.key])
      }
      state.struct = outer
      return values as T
    },
  }
}

function within(state: Decoding, field: Field, value: JsonNode, before: unknown): unknown {
  state.path.push(field.wire)
  const read = field.form.read(value, state, before)
  state.path.pop()
  return read
}

/** As Go folds names: two letters beyond ASCII are the same as one of it. */
export function folded(name: string): string {
  return name.replaceAll('ſ', 's').toLowerCase()
}

export function list<T>(item: Form<T>): Form<readonly T[]> {
  return {
    goType: `[]${item.goType}`,
    zero: [],
    read(node, state, before) {
      if (node.kind === 'null') return []
      if (node.kind === 'array') return node.items.map((each) => item.read(each, state, item.zero))
      mismatch(state, this.goType, node.kind)
      return before
    },
  }
}

/** An object with any members, in their order. */
export function mapOf<T>(item: Form<T>): Form<ReadonlyMap<string, T>> {
  return {
    goType: `map[string]${item.goType}`,
    zero: new Map(),
    read(node, state, before) {
      if (node.kind === 'null') return new Map()
      if (node.kind !== 'object') {
        mismatch(state, this.goType, node.kind)
        return before
      }
      const values = new Map(before)
      for (const { name, value } of node.members) {
        values.set(name, item.read(value, state, item.zero))
      }
      return values
    },
  }
}

/** Undefined when it is absent or null. */
export function optional<T>(form: Form<T>): Form<T | undefined> {
  return {
    goType: form.goType,
    zero: undefined,
    read: (node, state, before) =>
      node.kind === 'null' ? undefined : form.read(node, state, before ?? form.zero),
  }
}

/** A form whose value is turned into another. */
export function mapped<From, To>(
  form: Form<From>,
  to: (value: From) => To,
  from: (value: To) => From,
): Form<To> {
  return {
    goType: form.goType,
    zero: to(form.zero),
    read: (node, state, before) => to(form.read(node, state, from(before))),
  }
}
