import { needsProblem } from '../needs.ts'
import { type AnyPlugin, API_VERSION } from '../plugin.ts'

/** Names of plugins: folder, configuration table, log tag and state folder. */
export const PLUGIN_NAME = /^[a-z][a-z0-9-]*$/

/** Longest name and summary; both end up in tables that people read. */
const MAX_NAME = 64
const MAX_SUMMARY = 200

/**
 * Checks the shape of a plugin before anything of it runs, so that nothing the core reads later can
 * be of another type than the contract says.
 *
 * @throws {TypeError} Saying the first thing wrong with it; the caller names the file.
 */
export function assertPlugin(value: unknown): asserts value is AnyPlugin {
  if (typeof value !== 'object' || value === null) throw new TypeError('it exports no plugin')
  const plugin = value as Partial<Record<keyof AnyPlugin, unknown>>
  const problem = shapeProblem(plugin)
  if (problem !== undefined) throw new TypeError(problem)
}

function shapeProblem(plugin: Partial<Record<keyof AnyPlugin, unknown>>): string | undefined {
  const { apiVersion, name, summary, config, setup } = plugin
  if (apiVersion !== API_VERSION) {
    return `its apiVersion is ${String(apiVersion)}, this cvmd speaks ${API_VERSION}`
  }
  if (typeof name !== 'string' || name.length > MAX_NAME || !PLUGIN_NAME.test(name)) {
    return `its name ${JSON.stringify(name)} does not match ${PLUGIN_NAME.source}`
  }
  if (typeof summary !== 'string' || !/^.+$/.test(summary) || summary.length > MAX_SUMMARY) {
    return `its summary is not one line of at most ${MAX_SUMMARY} characters`
  }
  if (!isConfigSchema(config)) return 'its config is no valibot schema (version 1, not async)'
  if (typeof setup !== 'function') return 'it has no setup function'
  return optionalProblem(plugin)
}

function optionalProblem(plugin: Partial<Record<keyof AnyPlugin, unknown>>): string | undefined {
  const { requires, uses, exposure, auth, permissions, renderError } = plugin
  const data = (given: unknown) => (typeof given === 'function' ? undefined : given)
  const problem = needsProblem({ requires: data(requires), uses: data(uses) })
  if (problem !== undefined) return problem
  if (![undefined, 'local', 'network'].includes(exposure as string | undefined)) {
    return 'its exposure is neither "local" nor "network"'
  }
  if (![undefined, 'listener', 'own'].includes(auth as string | undefined)) {
    return 'its auth is neither "listener" nor "own"'
  }
  for (const [key, member] of Object.entries({ permissions, renderError })) {
    if (member !== undefined && typeof member !== 'function') return `its ${key} is no function`
  }
  return undefined
}

/** By its members, never by its class: the plugin may bring a copy of valibot of its own. */
function isConfigSchema(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  const schema = value as Record<string, unknown>
  return schema.kind === 'schema' && schema.async === false && typeof schema['~run'] === 'function'
}
