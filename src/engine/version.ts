import { EngineError } from './error.ts'

/**
 * Minor versions of API 1.x spoken here. 41 is what Docker 20.10, balenaEngine and Podman speak;
 * Docker 29 refuses anything below 44 (spec balena-supervisor §23.2).
 */
export const LOWEST_MINOR = 41
export const HIGHEST_MINOR = 47

/** What is spoken with an engine, and with which kind of engine. */
export interface Spoken {
  /** `1.41`. */
  readonly version: string
  readonly minor: number
  /** Podman says so in a header of `/_ping`; all others count as Docker. */
  readonly product: 'docker' | 'podman'
}

/**
 * The version to speak with an engine.
 *
 * @param highest The engine's highest version, `1.41`.
 * @throws {EngineError} `ENGINE_VERSION` for an engine that is too old, or says no version.
 */
export function chooseVersion(highest: string | undefined, product: Spoken['product']): Spoken {
  const minor = Number(/^1\.(\d{1,4})$/.exec(highest ?? '')?.[1] ?? Number.NaN)
  if (!(minor >= LOWEST_MINOR)) {
    throw new EngineError(
      'ENGINE_VERSION',
      'speak with the engine',
      `its API version is ${JSON.stringify((highest ?? 'unknown').slice(0, 20))}, ` +
        `at least 1.${LOWEST_MINOR} is needed (Docker 20.10, balenaEngine 20.10, Podman 4)`,
    )
  }
  const spoken = Math.min(minor, HIGHEST_MINOR)
  return { version: `1.${spoken}`, minor: spoken, product }
}
