import type { Engine } from '../../../../src/engine/engine.ts'
import { isEngineError } from '../../../../src/engine/error.ts'
import type { RegistryCredentials } from '../../../../src/engine/images.ts'
import { createPullMeter } from '../../../../src/engine/pull-meter.ts'
import { parseImageReference } from '../../../../src/engine/reference.ts'
import { DriverError } from '../driver.ts'

const SCHEME = 'docker://'

/** What a machine of this driver may be made of, for refusals. */
const OFFERED = 'this node takes "docker://image[:tag]" or "docker://image@sha256:…"'

/**
 * The image that a machine's `flist` names.
 *
 * @throws {DriverError} For any other source, saying what is offered.
 */
export function imageOf(flist: string): string {
  if (!flist.startsWith(SCHEME)) {
    const kind = /^https?:/.test(flist) ? 'flists are not mounted here' : 'unknown image source'
    throw new DriverError('failed', `cannot use flist "${shown(flist)}": ${kind}, ${OFFERED}`)
  }
  const image = flist.slice(SCHEME.length)
  if (parseImageReference(image)) return image
  throw new DriverError('failed', `"${shown(flist)}" names no image: ${OFFERED}`)
}

/** An address may have a password in it. */
function shown(flist: string): string {
  return flist.replace(/\/\/[^/@]*@/, '//').slice(0, 200)
}

/** Docker says 500 to it, as to everything else that goes wrong with a registry. */
const REFUSED = /no basic auth credentials|unauthorized|denied|forbidden/i

/** For a whole download: a registry that trickles is given up. */
const PULL_MS = 3_600_000

export interface ImageSource {
  readonly engine: Engine
  /** Who pulls from a registry, by its host. Default: nobody in particular. */
  readonly credentials?: (registry: string) => RegistryCredentials | undefined
}

/**
 * Pulls an image that is not here. One that is here is not asked for again, whatever its tag now is
 * in the registry.
 *
 * @throws {DriverError} `failed` for an image that is not there or not given; `transient` for any
 *   other failure of a download.
 */
export async function ensureImage(
  { engine: { images }, credentials }: ImageSource,
  image: string,
  task: { progress(text: string): void; readonly signal: AbortSignal },
): Promise<void> {
  const { signal } = task
  if (await isHere()) return
  const reference = parseImageReference(image)
  const who = reference && credentials?.(reference.registry)
  const meter = createPullMeter()
  let told = -1
  const tell = () => {
    const percent = meter.percent()
    // Each is shown to somebody, and may be written down.
    if (percent < told + 10 && told !== -1) return
    told = percent
    task.progress(`downloading ${percent} %`)
  }
  tell()
  try {
    await images.pull(image, {
      signal: AbortSignal.any([signal, AbortSignal.timeout(PULL_MS)]),
      onProgress: (progress) => {
        meter.add(progress)
        tell()
      },
      ...(who ? { credentials: who } : {}),
    })
  } catch (error) {
    if (isEngineError(error, 'ENGINE_FAILED') && !REFUSED.test(error.message)) {
      throw new DriverError('transient', error.message, { cause: error })
    }
    if (error instanceof Error && error.name === 'TimeoutError') {
      const reason = `image "${image}" did not come within ${PULL_MS / 60_000} minutes`
      throw new DriverError('transient', reason, { cause: error })
    }
    throw error
  }

  async function isHere(): Promise<boolean> {
    try {
      await images.inspect(image, { signal })
      return true
    } catch (error) {
      if (isEngineError(error, 'ENGINE_NOT_FOUND')) return false
      throw error
    }
  }
}
