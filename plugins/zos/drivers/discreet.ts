import { messageOf } from '../../../src/errors.ts'
import type { WorkloadType } from '../model.ts'
import { type Driver, DriverError, type Task } from './driver.ts'

/** An absolute path as it stands in a message, not a part of a URL or of another word. */
const PATH = String.raw`[^\s"'\`,:;()<>[\]]*`

/**
 * A text in which paths of this host have shrunk to their last part. How its disk is laid out is the
 * operator's matter and not the tenants'.
 *
 * @param places Files and folders of the host, absolute; default: every absolute path is one.
 */
export function withoutFolders(text: string, places?: readonly string[]): string {
  const known = places?.filter((place) => place.length > 1 && place.startsWith('/'))
  if (known?.length === 0) return text
  // The longest first, or a folder in another one would be overlooked.
  const sorted = known?.sort((a, b) => b.length - a.length).map(escaped)
  const begin = sorted ? `(?:${sorted.join('|')})(?![\\w.-])` : '/[\\w.]'
  return text.replaceAll(new RegExp(`(?<![\\w./:-])${begin}${PATH}`, 'g'), lastPart)
}

function lastPart(path: string): string {
  return path.replace(/\/+$/, '').replace(/^.*\//, '')
}

function escaped(text: string): string {
  return text.replace(/\/+$/, '').replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

export interface DiscreetOptions {
  /** Files and folders of the host that messages may name. */
  readonly places: readonly (string | undefined)[]
  /** Told the whole of a message of which tenants see less. */
  readonly warn?: ((message: string) => void) | undefined
}

/** The last message of that many workloads is remembered, so as not to be told at each attempt. */
const MAX_TOLD = 1000

/** The same driver, whose reasons for tenants name no folders of the host. */
export function discreet<T extends WorkloadType>(
  driver: Driver<T>,
  { places, warn = () => {} }: DiscreetOptions,
): Driver<T> {
  const known = places.filter((place) => place !== undefined)
  const told = new Map<string, string>()
  const clean = (id: string, message: string): string => {
    const shown = withoutFolders(message, known)
    if (shown === message || told.get(id) === message) return shown
    if (told.size >= MAX_TOLD) told.clear()
    told.set(id, message)
    warn(`workload ${id}: ${message}`)
    return shown
  }
  type Step = (task: Task<T>) => Promise<unknown>
  const guarded =
    (step: Step): Step =>
    async (task) => {
      try {
        return await step(task)
      } catch (error) {
        const message = messageOf(error)
        const shown = clean(task.id, message)
        if (shown === message) throw error
        const { kind, data } = error instanceof DriverError ? error : new DriverError('failed', '')
        throw new DriverError(kind, shown, { cause: error, data })
      }
    }
  const watching =
    (watch: NonNullable<Driver<T>['watch']>): NonNullable<Driver<T>['watch']> =>
    (crashed, signal) =>
      watch(({ id, reason }) => crashed({ id, reason: clean(id, reason) }), signal)
  return new Proxy(driver, {
    get(target, name) {
      const member = Reflect.get(target, name)
      if (typeof member !== 'function') return member
      const method = member.bind(target)
      if (name === 'watch') return watching(method)
      return STEPS.has(name) ? guarded(method) : method
    },
  })
}

/** What may fail with a message for the tenant. */
const STEPS: ReadonlySet<unknown> = new Set<keyof Driver>([
  'provision',
  'update',
  'deprovision',
  'pause',
  'resume',
])
