import { MAX_ITEMS, MAX_VALUE, MAX_WORD } from './limits.ts'
import { isObject, type Place } from './place.ts'

/*
 * Readers of what compose writes in several ways. What they cannot read is left out with a warning,
 * as spec §10 has it; undefined says that nothing is left.
 */

export function readText(value: unknown, place: Place, most = MAX_WORD): string | undefined {
  const text = typeof value === 'number' ? String(value) : value
  if (typeof text !== 'string') return place.warn('is left out: it must be a string')
  if (text.length > most) return place.warn(`is left out: it has more than ${most} characters`)
  if (text.includes('\0')) return place.warn('is left out: it holds a NUL')
  return text
}

/**
 * Compose's list of names, or map from names to more about each; undefined for neither, or too
 * many. What a list holds that is no name has the empty one.
 */
export function readNamed(value: unknown): [string, unknown][] | undefined {
  const entries = Array.isArray(value)
    ? value.map((name): [string, unknown] => [isName(name) ? `${name}` : '', undefined])
    : isObject(value)
      ? Object.entries(value)
      : []
  const fits = typeof value === 'object' && value !== null && entries.length <= MAX_ITEMS
  return fits ? entries : undefined
}

const isName = (value: unknown) => typeof value === 'string' || typeof value === 'number'

/** A text of one form. */
export function readWord(value: unknown, place: Place, form: RegExp): string | undefined {
  const text = readText(value, place)
  if (text === undefined || form.test(text)) return text
  return place.warn('is left out: it has not the form that is expected here')
}

export function readFlag(value: unknown, place: Place): boolean | undefined {
  if (typeof value === 'boolean') return value
  if (value === 'true' || value === 'false') return value === 'true'
  return place.warn('is left out: it must be true or false')
}

export function readInteger(
  value: unknown,
  place: Place,
  least: number,
  most: number,
): number | undefined {
  const number = typeof value === 'string' && /^-?[0-9]{1,16}$/.test(value) ? Number(value) : value
  if (typeof number === 'number' && Number.isSafeInteger(number)) {
    if (number >= least && number <= most) return number
  }
  return place.warn(`is left out: it must be an integer from ${least} to ${most}`)
}

/** A list, or one of its elements alone; each element by `read`. */
export function readList<T>(
  value: unknown,
  place: Place,
  read: (element: unknown, place: Place) => T | undefined,
): T[] | undefined {
  if (!Array.isArray(value)) {
    if (isObject(value)) return place.warn('is left out: it must be a list')
    const only = read(value, place)
    return only === undefined ? undefined : [only]
  }
  if (value.length > MAX_ITEMS) {
    return place.warn(`is left out: it has more than ${MAX_ITEMS} elements`)
  }
  const list: T[] = []
  for (const [index, element] of value.entries()) {
    const item = read(element, place.in(index))
    if (item !== undefined) list.push(item)
  }
  return list.length > 0 ? list : undefined
}

/** A list of texts of one form, each once. */
export function readWords(value: unknown, place: Place, form: RegExp): string[] | undefined {
  const words = readList(value, place, (element, at) => readWord(element, at, form))
  return words && [...new Set(words)]
}

/**
 * A map, or a list of `name=value`. Values may be strings, numbers and truth values; null is the
 * empty string.
 */
export function readMap(
  value: unknown,
  place: Place,
  most: number,
): Record<string, string> | undefined {
  const entries = Array.isArray(value)
    ? assignments(value, place, most)
    : isObject(value)
      ? Object.entries(value)
      : undefined
  if (entries === undefined) return place.warn('is left out: it must be an object or a list')
  if (entries.length > most) return place.warn(`is left out: it has more than ${most} members`)
  const map = new Map<string, string>()
  for (const [name, entry] of entries) {
    const at = place.in(name)
    if (!usableName(name)) {
      at.warn('is left out: it has no usable name')
      continue
    }
    const plain = entry === null ? '' : typeof entry === 'boolean' ? String(entry) : entry
    const text = readText(plain, at, MAX_VALUE)
    if (text !== undefined) map.set(name, text)
  }
  return map.size > 0 ? Object.fromEntries(map) : undefined
}

/** `__proto__` as a member name has a meaning of its own in JavaScript. */
function usableName(name: string): boolean {
  return name !== '' && name !== '__proto__' && name.length <= MAX_WORD && !/[=\0]/.test(name)
}

function assignments(list: readonly unknown[], place: Place, most: number): [string, unknown][] {
  const entries: [string, unknown][] = []
  for (const [index, element] of list.slice(0, most + 1).entries()) {
    const equals = typeof element === 'string' ? element.indexOf('=') : -1
    if (typeof element !== 'string' || equals < 1) {
      place.in(index).warn('is left out: it must be "name=value"')
      continue
    }
    entries.push([element.slice(0, equals), element.slice(equals + 1)])
  }
  return entries
}
