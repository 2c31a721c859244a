import type { VolumeMount } from './composition-model.ts'
import { MAX_NAME, MAX_WORD } from './limits.ts'
import { isObject, type JsonObject, type Place } from './place.ts'
import { readBytes } from './units.ts'
import { readList, readText } from './values.ts'

/** Where every container has its lock directory (spec §8.1). */
const RESERVED: ReadonlySet<string> = new Set(['/tmp/balena', '/tmp/resin'])

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/

/**
 * The volumes of a service (spec §10): named, anonymous and tmpfs ones, in the short or the long
 * form. Binds of paths of the host are refused with a warning. One mount for each path in the
 * container: the last.
 */
export function readMounts(value: unknown, place: Place): VolumeMount[] | undefined {
  const mounts = readList(value, place, readMount)
  if (mounts === undefined) return undefined
  const byTarget = new Map<string, VolumeMount>()
  for (const mount of mounts) byTarget.set(mount.target, mount)
  if (byTarget.size < mounts.length) place.warn('mounts one path twice: the last one counts')
  return [...byTarget.values()]
}

function readMount(value: unknown, place: Place): VolumeMount | undefined {
  if (isObject(value)) return longForm(value, place)
  const text = readText(value, place)
  if (text === undefined) return undefined
  const [first = '', second, options = '', ...rest] = text.split(':')
  if (rest.length > 0) return place.warn('is left out: it must be "[name:]path[:options]"')
  if (second === undefined) return finish(place, { type: 'anonymous', target: first })
  if (!NAME.test(first) || first.length > MAX_NAME) return refuseBind(place)
  const words = options.split(',')
  const readOnly = words.includes('ro')
  const noCopy = words.includes('nocopy')
  return finish(place, { type: 'named', source: first, target: second, readOnly, noCopy })
}

function longForm(value: JsonObject, place: Place): VolumeMount | undefined {
  const { type, source, target, read_only: readOnly = false, volume, tmpfs } = value
  if (typeof target !== 'string') return place.warn('is left out: it must have a target')
  if (type === 'tmpfs') {
    const size = isObject(tmpfs) ? readBytes(tmpfs.size) : undefined
    const mode = isObject(tmpfs) && Number.isInteger(tmpfs.mode) ? Number(tmpfs.mode) : undefined
    return finish(place, {
      type,
      target,
      ...(size === undefined ? {} : { size }),
      ...(mode === undefined || mode < 0 || mode > 0o7777 ? {} : { mode }),
    })
  }
  if (type !== 'volume') return refuseBind(place)
  if (source === undefined || source === null || source === '') {
    return finish(place, { type: 'anonymous', target, readOnly: readOnly === true })
  }
  if (typeof source !== 'string' || !NAME.test(source) || source.length > MAX_NAME) {
    return refuseBind(place)
  }
  const noCopy = isObject(volume) && volume.nocopy === true
  return finish(place, { type: 'named', source, target, readOnly: readOnly === true, noCopy })
}

type Unfinished =
  | Exclude<VolumeMount, { type: 'anonymous' }>
  | { readonly type: 'anonymous'; readonly target: string; readonly readOnly?: boolean }

function finish(place: Place, mount: Unfinished): VolumeMount | undefined {
  const target = mountPath(mount.target)
  if (target === undefined) {
    return place.warn('is left out: it must be mounted on an absolute path')
  }
  if (RESERVED.has(target)) {
    return place.warn(`is left out: ${target} is where the update locks are`)
  }
  if (mount.type === 'anonymous') {
    return { type: mount.type, target, readOnly: mount.readOnly ?? false }
  }
  return { ...mount, target }
}

/** An absolute path without `.`, `..` and empty parts; undefined for `/` and for anything else. */
export function mountPath(path: string): string | undefined {
  if (!path.startsWith('/') || path.length > MAX_WORD || /[\0:,]/.test(path)) return undefined
  const parts = path.split('/').filter((part) => part !== '' && part !== '.')
  if (parts.length === 0 || parts.includes('..')) return undefined
  return `/${parts.join('/')}`
}

function refuseBind(place: Place): undefined {
  return place.warn('is left out: only volumes can be mounted, no paths of the host')
}
