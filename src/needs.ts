import type { AnyPlugin, OwnAddress, Requirement, Services } from './plugin.ts'

/** What a plugin needs with a configuration. */
export interface Needs {
  readonly requires: Requirement | undefined
  readonly uses: readonly (keyof Services)[]
}

/**
 * @param config Checked; undefined where it is not good, so that what depends on it is not known.
 * @throws {TypeError} When a function of the plugin gives something else than needs.
 */
export function needsOf({ requires, uses }: AnyPlugin, config: unknown): Needs {
  const needs = { requires: byConfig(requires, config), uses: byConfig(uses, config) ?? [] }
  const problem = needsProblem(needs)
  if (problem !== undefined) throw new TypeError(problem)
  return needs
}

/** Where a plugin listens on its own, with a checked configuration. */
export function addressesOf({ addresses }: AnyPlugin, config: unknown): readonly OwnAddress[] {
  return byConfig(addresses, config) ?? []
}

function byConfig<T>(given: T | ((config: unknown) => T), config: unknown): T | undefined {
  if (typeof given !== 'function') return given
  return config === undefined ? undefined : (given as (config: unknown) => T)(config)
}

/** Why something is not what `requires` and `uses` may be, for plugins from outside. */
export function needsProblem({ requires, uses }: Readonly<Record<keyof Needs, unknown>>) {
  if (requires !== undefined && !isRequirement(requires)) return 'its requires is no requirement'
  if (uses !== undefined && !isTextList(uses)) return 'its uses is no list of service names'
  return undefined
}

function isRequirement(value: unknown): boolean {
  if (typeof value === 'string') {
    return ['tdx', 'tsm', 'nsm', 'gpu'].includes(value) || value.startsWith('path:/')
  }
  if (typeof value !== 'object' || value === null) return false
  const parts = 'any' in value ? value.any : 'all' in value ? value.all : undefined
  return Array.isArray(parts) && parts.every(isRequirement)
}

function isTextList(value: unknown): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === 'string')
}
