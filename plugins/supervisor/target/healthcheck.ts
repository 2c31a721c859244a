import type { HealthcheckComposition } from './composition-model.ts'
import { MAX_ITEMS, MAX_VALUE } from './limits.ts'
import { isObject, type Place } from './place.ts'
import { readDuration } from './units.ts'
import { readInteger, readList, readText } from './values.ts'

/** The engine refuses shorter times than one millisecond. */
const SHORTEST = 1e6

/** A health check (spec §10): a test that is a string goes through the shell of the container. */
export function readHealthcheck(value: unknown, place: Place): HealthcheckComposition | undefined {
  if (!isObject(value)) return place.warn('is left out: it must be an object')
  if (value.disable === true) return { test: ['NONE'] }
  const found: Record<string, unknown> = {}
  for (const [field, given] of Object.entries(value)) {
    const taken = readField(field, given, place.in(field))
    if (taken !== undefined) found[field] = taken
  }
  return Object.keys(found).length > 0 ? found : undefined
}

function readField(field: string, given: unknown, place: Place): unknown {
  switch (field) {
    case 'disable':
      return undefined
    case 'test':
      return readTest(given, place)
    case 'interval':
    case 'timeout':
    case 'start_period':
      return readTime(given, place)
    case 'retries':
      return readInteger(given, place, 0, MAX_ITEMS)
    default:
      return place.warn('is left out: it is not supported')
  }
}

function readTest(given: unknown, place: Place): string[] | undefined {
  if (typeof given === 'string') {
    const command = readText(given, place, MAX_VALUE)
    return command === undefined || command === '' ? undefined : ['CMD-SHELL', command]
  }
  const words = readList(given, place, (word, at) => readText(word, at, MAX_VALUE))
  if (words === undefined) return undefined
  const [kind = ''] = words
  if (['NONE', 'CMD', 'CMD-SHELL'].includes(kind)) return words
  return place.warn('is left out: it must begin with "NONE", "CMD" or "CMD-SHELL"')
}

function readTime(given: unknown, place: Place): number | undefined {
  const time = readDuration(given)
  if (time === undefined || (time > 0 && time < SHORTEST)) {
    return place.warn('is left out: it must be a time of at least 1ms, such as "30s"')
  }
  return time
}
