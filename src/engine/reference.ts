/** The parts of an image's name, as registries and engines read it. */
export interface ImageReference {
  /** `registry.example:5000`; `docker.io` where none is named. */
  readonly registry: string
  /** Without the registry: `library/alpine`, `team/app`. */
  readonly repository: string
  /** Absent where only a digest is named; `latest` where neither is. */
  readonly tag?: string
  /** `sha256:` and 64 hex digits. */
  readonly digest?: string
  /** What an engine is asked for: the name as it was written, without tag and digest. */
  readonly name: string
}

/** Longest name taken (spec balena-supervisor §9.1). */
const MAX_LENGTH = 255
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/
const DIGEST = /^sha256:[0-9a-f]{64}$/
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*$/
const REGISTRY = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?$/

/**
 * Reads an image's name: `[registry/]repository[:tag][@sha256:digest]`.
 *
 * A first part counts as registry when it has a dot, a colon or a capital, or is `localhost`.
 *
 * @returns Undefined for what is no name.
 */
export function parseImageReference(text: string): ImageReference | undefined {
  if (text.length > MAX_LENGTH) return undefined
  const at = text.indexOf('@')
  const digest = at === -1 ? undefined : text.slice(at + 1)
  if (digest !== undefined && !DIGEST.test(digest)) return undefined
  const tagged = at === -1 ? text : text.slice(0, at)
  const colon = tagged.lastIndexOf(':')
  const hasTag = colon > tagged.lastIndexOf('/')
  const tag = hasTag ? tagged.slice(colon + 1) : digest === undefined ? 'latest' : undefined
  if (tag !== undefined && !TAG.test(tag)) return undefined
  const name = hasTag ? tagged.slice(0, colon) : tagged
  const slash = name.indexOf('/')
  const first = name.slice(0, Math.max(0, slash))
  const hosted = /[.:A-Z]/.test(first) || first === 'localhost'
  if (hosted && !REGISTRY.test(first)) return undefined
  const path = hosted ? name.slice(slash + 1) : name
  if (!path.split('/').every((component) => COMPONENT.test(component))) return undefined
  const registry = hosted && first !== 'index.docker.io' ? first : 'docker.io'
  const official = registry === 'docker.io' && !path.includes('/')
  return {
    registry,
    repository: official ? `library/${path}` : path,
    name,
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
  }
}

/** Whether a text is the id of an image: `sha256:` and 64 hex digits. */
export function isImageId(text: string): boolean {
  return DIGEST.test(text)
}
