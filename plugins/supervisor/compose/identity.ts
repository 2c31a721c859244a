import { createHmac } from 'node:crypto'
import type { Asked } from './asked.ts'
import { canonicalJson, sha256 } from './canonical.ts'
import { NOT_COMPARED } from './environment.ts'

/** What a container is, as it is kept in its labels. */
export interface Identity {
  /** SHA-256, 64 hex digits. */
  readonly hash: string
  /** By field, `environment.NAME` and `labels.NAME` apart; 16 hex digits each. */
  readonly fields: Readonly<Record<string, string>>
}

/** Of a masked value; enough to see that it changed. */
const MASK_DIGITS = 16

/** Fields that a label holds at most; a change of the others is named `…`. */
const MAX_FIELDS = 4096

/**
 * Hash and masked fields of what is asked for. The name, the release and `running` are no part of
 * it, and neither are variables that are not compared (spec §12, §23.1).
 *
 * @param maskKey Values may be short secrets, which a bare hash would give away to whoever tries
 *   them all.
 */
export function identify(asked: Asked, maskKey: Uint8Array = new Uint8Array()): Identity {
  const { environment, labels, ...rest } = asked
  const compared = Object.entries(environment).filter(([name]) => !NOT_COMPARED.has(name))
  const whole = { ...rest, labels, environment: Object.fromEntries(compared) }
  const flat: [string, unknown][] = [
    ...Object.entries(rest).filter(([, value]) => value !== undefined),
    ...compared.map(([name, value]): [string, unknown] => [`environment.${name}`, value]),
    ...Object.entries(labels).map(([name, value]): [string, unknown] => [`labels.${name}`, value]),
  ]
  const fields = flat
    .slice(0, MAX_FIELDS)
    .map(([name, value]) => [name, mask(maskKey, name, value)])
  return { hash: sha256(canonicalJson(whole)), fields: Object.fromEntries(fields) }
}

function mask(key: Uint8Array, name: string, value: unknown): string {
  // With the name in it, equal values of two fields do not show as equal.
  const text = `${name}\0${canonicalJson(value)}`
  return createHmac('sha256', key).update(text).digest('hex').slice(0, MASK_DIGITS)
}

/** The text of the label `io.cvmd.supervisor.fields`. */
export function writeFields(fields: Identity['fields']): string {
  return canonicalJson(fields)
}

/** Reads that label back; undefined when it is missing or not of ours. */
export function readFields(label: string | undefined): Record<string, string> | undefined {
  if (label === undefined) return undefined
  let value: unknown
  try {
    value = JSON.parse(label)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const entries = Object.entries(value).filter(([, masked]) => typeof masked === 'string')
  return Object.fromEntries(entries)
}

/**
 * Names of the fields in which two configurations differ, in order; no values. Without one of them
 * nothing can be named: `["configuration"]`.
 */
export function changedFields(
  before: Identity['fields'] | undefined,
  after: Identity['fields'] | undefined,
): string[] {
  if (before === undefined || after === undefined) return ['configuration']
  const names = new Set([...Object.keys(before), ...Object.keys(after)])
  const changed = [...names].filter((name) => own(before, name) !== own(after, name)).sort()
  return changed.length > 0 ? changed : ['configuration']
}

function own(fields: Identity['fields'], name: string): string | undefined {
  return Object.hasOwn(fields, name) ? fields[name] : undefined
}
