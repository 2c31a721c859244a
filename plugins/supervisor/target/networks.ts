import type { NetworkAttachment, NetworkMode } from './composition-model.ts'
import { MAX_ITEMS } from './limits.ts'
import { isObject, type Place } from './place.ts'
import { readNamed, readText, readWord, readWords } from './values.ts'

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/
const ALIAS = /^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,254}$/
/** Written as an address; whether it is one the engine says. */
export const ADDRESS = /^[0-9a-fA-F:.]{2,45}$/

/** `host`, `bridge`, `none` or `service:<name>` (spec §10); anything else is left out. */
export function readNetworkMode(value: unknown, place: Place): NetworkMode | undefined {
  const mode = readText(value, place)
  if (mode === undefined) return undefined
  if (mode === 'host' || mode === 'bridge' || mode === 'none') return { kind: mode }
  const [kind, serviceName = ''] = mode.split(':')
  if (kind === 'service' && NAME.test(serviceName)) return { kind, serviceName }
  return place.warn('is left out: it must be "host", "bridge", "none" or "service:<name>"')
}

/** The networks of a service: a list of names, or a map from names to how it is attached. */
export function readAttachments(
  value: unknown,
  place: Place,
): Record<string, NetworkAttachment> | undefined {
  const entries = readNamed(value)
  if (entries === undefined) {
    return place.warn(`is left out: it must be a list or an object of at most ${MAX_ITEMS} names`)
  }
  const attachments = new Map<string, NetworkAttachment>()
  for (const [name, how] of entries) {
    const at = place.in(name)
    if (!NAME.test(name)) at.warn('is left out: it is no name of a network')
    else attachments.set(name, readAttachment(how, at))
  }
  return attachments.size > 0 ? Object.fromEntries(attachments) : undefined
}

function readAttachment(value: unknown, place: Place): NetworkAttachment {
  if (value === null || value === undefined) return {}
  if (!isObject(value)) {
    place.warn('has settings that are left out: they must be an object')
    return {}
  }
  const found: Record<string, unknown> = {}
  for (const [field, given] of Object.entries(value)) {
    const at = place.in(field)
    let taken: unknown
    if (field === 'aliases') taken = readWords(given, at, ALIAS)
    else if (field === 'link_local_ips') taken = readWords(given, at, ADDRESS)
    else if (field === 'ipv4_address' || field === 'ipv6_address') {
      taken = readWord(given, at, ADDRESS)
    } else at.warn('is left out: it is not supported')
    if (taken !== undefined) found[field] = taken
  }
  return found
}
