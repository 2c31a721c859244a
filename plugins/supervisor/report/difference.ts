import { canonicalJson } from '../compose/canonical.ts'

export type State = Readonly<Record<string, unknown>>

/**
 * What of a report is new since the last one that was accepted: members that differ, and of the
 * member `apps` only apps that differ (spec §19, "shallow diff, depth 2"). A member that is gone is
 * not told; an app that is gone is in an `apps` that is told as a whole.
 */
export function difference(last: State, now: State): State {
  const changed = Object.entries(now).flatMap(([name, value]): [string, unknown][] => {
    const before = Object.hasOwn(last, name) ? last[name] : undefined
    if (same(before, value)) return []
    return [[name, isRecord(before) && isRecord(value) ? members(before, value) : value]]
  })
  return Object.fromEntries(changed)
}

function members(before: State, now: State): State {
  const gone = Object.keys(before).some((name) => !Object.hasOwn(now, name))
  if (gone) return now
  const changed = Object.entries(now).filter(([name, value]) => {
    return !Object.hasOwn(before, name) || !same(before[name], value)
  })
  return Object.fromEntries(changed)
}

function same(a: unknown, b: unknown): boolean {
  return a === b || canonicalJson(a ?? null) === canonicalJson(b ?? null)
}

function isRecord(value: unknown): value is State {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
