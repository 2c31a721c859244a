import type { PullProgress } from './images.ts'

/** How far a pull is, as one number. */
export interface PullMeter {
  /** Takes what the engine said. */
  add(progress: PullProgress): void
  /** 0 to 100, whole, and never less than before. 100 only when {@link PullMeter.done} was called. */
  percent(): number
  done(): void
}

/** An image has at most 127 layers; an engine that names more is not believed. */
const MAX_LAYERS = 1000

/** Of the time a layer takes, the part that is its download. */
const DOWNLOAD = 0.8

/**
 * A meter for one pull: the mean over its layers, of which a download counts for four fifths and
 * the unpacking for one. Layers are told of before the first begins, so the mean is over all.
 */
export function createPullMeter(): PullMeter {
  const layers = new Map<string, number>()
  let shown = 0
  let sum = 0

  return {
    add({ status, layer, current, total }) {
      const begun = current > 0 && total > 0
      const part = partOf(status, begun ? (current < total ? current / total : 1) : 0)
      if (layer === '' || part === undefined) return
      const before = layers.get(layer)
      if (before === undefined && layers.size >= MAX_LAYERS) return
      // What comes late, or twice, takes nothing back.
      const now = Math.max(before ?? 0, part)
      layers.set(layer, now)
      sum += now - (before ?? 0)
      shown = Math.max(shown, Math.min(99, Math.floor((100 * sum) / layers.size)))
    },
    percent: () => shown,
    done: () => {
      shown = 100
    },
  }
}

/** How much of a layer is done; undefined for what is said about something else. */
function partOf(status: string, fraction: number): number | undefined {
  switch (status) {
    case 'Pulling fs layer':
    case 'Waiting':
      return 0
    case 'Downloading':
      return DOWNLOAD * fraction
    case 'Verifying Checksum':
    case 'Download complete':
      return DOWNLOAD
    case 'Extracting':
      return DOWNLOAD + (1 - DOWNLOAD) * fraction
    case 'Pull complete':
    case 'Already exists':
      return 1
    default:
      return undefined
  }
}
