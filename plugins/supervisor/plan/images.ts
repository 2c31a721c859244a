import { imageKey } from '../compose/image-key.ts'
import type { Current, CurrentImage } from './current.ts'
import type { Desired } from './desired.ts'
import type { PlanOptions } from './options.ts'
import type { Step } from './steps.ts'

/** The images of the engine by what references they have, and what is on the way. */
export interface Images {
  /** The engine's id of what a reference names now. */
  idOf(reference: string): string | undefined
  /** How far a reference is from being present. */
  stateOf(reference: string): ImageState
  /** Names that are ours and that nothing needs. */
  readonly removable: readonly string[]
}

export type ImageState =
  | { readonly kind: 'present' | 'absent' | 'downloading' }
  | { readonly kind: 'failed'; readonly retryAt: number }

export function indexImages(current: Current, desired: Desired, options: PlanOptions): Images {
  const ids = new Map<string, string>()
  for (const { id, names } of current.images) {
    for (const name of names) ids.set(name, id)
  }
  return {
    idOf: (reference) => ids.get(imageKey(reference)),
    stateOf(reference) {
      const key = imageKey(reference)
      if (ids.has(key)) return { kind: 'present' }
      if (current.downloads.has(key)) return { kind: 'downloading' }
      const retryAt = current.failedPulls.get(key)?.retryAt
      if (retryAt !== undefined && retryAt > options.now) return { kind: 'failed', retryAt }
      return { kind: 'absent' }
    },
    removable: options.keepImages ? [] : removable(current, desired),
  }
}

/** Apps that are left untouched keep their images too: the target names them. */
function removable(current: Current, desired: Desired): string[] {
  const named = new Set<string>()
  for (const { services } of desired.apps) {
    for (const { image } of services) named.add(imageKey(image))
  }
  const used = new Set(current.containers.map(({ imageId }) => imageId))
  const isFree = ({ id, inUse }: CurrentImage) => !inUse && !used.has(id)
  return current.images.filter(isFree).flatMap(({ owned }) =>
    owned.filter((name) => {
      const kept = named.has(name) || current.downloads.has(name)
      return !kept && current.failedRemovals?.has(name) !== true
    }),
  )
}

/** References are counted: an image that a container was made from, or the target names, stays. */
export function removeImages({ removable: names }: Images): Step[] {
  return names.map((image): Step => ({ kind: 'remove-image', image }))
}
