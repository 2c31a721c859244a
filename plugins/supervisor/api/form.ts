/** Fields of a form; what an application sends has a handful. */
const MAX_FIELDS = 1000

/** Depth of `a[b][c]`. */
const MAX_DEPTH = 5

/** A form's value: text, or what brackets in names and repeated names make of it. */
export type FormValue = string | FormValue[] | { [name: string]: FormValue }

/**
 * Reads a URL-encoded form (spec §1): `a[b]=1` is an object, `a[]=1` and a repeated name are lists.
 * Objects have no prototype, so that a name such as `__proto__` is only a name.
 *
 * @throws {RangeError} For too many fields, or too deep ones.
 */
export function parseForm(body: string): { readonly [name: string]: FormValue } {
  const form: { [name: string]: FormValue } = Object.create(null)
  let fields = 0
  for (const [name, value] of new URLSearchParams(body)) {
    if (++fields > MAX_FIELDS) throw new RangeError(`it has more than ${MAX_FIELDS} fields`)
    const path = pathOf(name)
    if (path.length > MAX_DEPTH) throw new RangeError(`a field is deeper than ${MAX_DEPTH}`)
    put(form, path, value)
  }
  return form
}

/** `a[b][]` is `a`, `b` and the empty name. Brackets that do not fit are part of the name. */
function pathOf(name: string): string[] {
  const [, first, rest] = /^([^[\]]+)((?:\[[^[\]]*\])+)$/.exec(name) ?? []
  if (first === undefined || rest === undefined) return [name]
  return [first, ...rest.slice(1, -1).split('][')]
}

function put(form: { [name: string]: FormValue }, path: readonly string[], value: string): void {
  const [name = '', ...rest] = path
  const there = form[name]
  const [next] = rest
  if (next === undefined) form[name] = there === undefined ? value : [there, value].flat()
  else if (next === '' && rest.length === 1) {
    form[name] = there === undefined ? [value] : [there, value].flat()
  } else {
    const inner = isFields(there) ? there : Object.create(null)
    form[name] = inner
    put(inner, rest, value)
  }
}

function isFields(value: FormValue | undefined): value is { [name: string]: FormValue } {
  return typeof value === 'object' && !Array.isArray(value)
}
