import type { RootKeys } from '../derivation/kms-keys.ts'
import type { RootMaterial } from './root-material.ts'

/*
 * Versions of root keys. Version 0 derives what dstack does; each later one has an authority and a
 * signing key of its own, so that neither a leaked key nor a pinned root of one version says
 * anything about another. What follows the version: the root certificate and all that is issued
 * under it, the key that signs, and everything that is derived. What does not: the temporary
 * authority, whose key is public, and the domain.
 */

/** All root keys of a KMS. */
export interface Roots {
  /** What is answered when nobody says which. */
  readonly current: RootMaterial
  /** From 0 on, without gaps. */
  readonly versions: readonly number[]
  of(version: number): RootKeys | undefined
  materialOf(version: number): RootMaterial | undefined
}

/**
 * Versions that belong together.
 *
 * @param materials Of versions 0 and what follows it, in order.
 * @param current Which of them is the current one.
 * @throws {RangeError} When one is left out, or there is no such version.
 */
export function rootsFrom(materials: readonly RootMaterial[], current = 0): Roots {
  const found = materials[current]
  if (!found || materials.some(({ root }, i) => root.version !== i)) {
    const versions = materials.map(({ root }) => root.version).join(', ')
    throw new RangeError(`Cannot use root version ${current} of ${versions || 'none'}`)
  }
  return {
    current: found,
    versions: materials.map(({ root }) => root.version),
    of: (version) => materials[version]?.root,
    materialOf: (version) => materials[version],
  }
}

/** Overwrites all root keys; nothing is derived from them afterwards. */
export function clearRoots(roots: Roots): void {
  for (const version of roots.versions) {
    const keys = roots.of(version)
    if (keys) zero(keys)
  }
}

/** Overwrites the keys of one version. */
export function zero({ ca, k256 }: RootKeys): void {
  ca.fill(0)
  k256.fill(0)
}
