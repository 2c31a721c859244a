import { MAX_CONTRACT_DEPTH, MAX_ITEMS, MAX_NAME } from './limits.ts'
import type { Contract, ContractRequirement, Target, TargetApp, TargetService } from './model.ts'
import { isObject, type Place } from './place.ts'
import { inRange } from './version-range.ts'

/** What can be required (spec §9.4). A type that is not in it is not fulfilled. */
export interface ContractFacts {
  readonly 'sw.supervisor'?: { readonly version: string }
  readonly 'sw.l4t'?: { readonly version: string }
  readonly 'sw.os'?: { readonly slug?: string; readonly version: string }
  readonly 'sw.kernel'?: { readonly version: string }
  readonly 'hw.device-type'?: { readonly slug: string }
  readonly 'arch.sw'?: { readonly slug: string }
}

export function readContract(value: unknown, place: Place): Contract | undefined {
  if (value === undefined || value === null) return undefined
  const contract = place.object(value, MAX_ITEMS)
  if (contract === undefined) return undefined
  return { requires: readRequirements(contract.requires ?? [], place.in('requires'), 0) }
}

function readRequirements(value: unknown, place: Place, depth: number): ContractRequirement[] {
  if (!Array.isArray(value) || value.length > MAX_ITEMS || depth > MAX_CONTRACT_DEPTH) {
    place.issue(`must be a list of at most ${MAX_ITEMS} requirements`)
    return []
  }
  const found: ContractRequirement[] = []
  for (const [index, element] of value.entries()) {
    const at = place.in(index)
    if (!isObject(element)) at.issue('must be an object')
    else if (element.or !== undefined) {
      found.push({ or: readRequirements(element.or, at.in('or'), depth + 1) })
    } else if (!isShort(element.type)) at.in('type').issue('must be a short string')
    else {
      const { type, slug, version } = element
      if (slug !== undefined && !isShort(slug)) at.in('slug').issue('must be a short string')
      if (version !== undefined && !isShort(version)) {
        at.in('version').issue('must be a short string')
      }
      found.push({
        type,
        ...(isShort(slug) ? { slug } : {}),
        ...(isShort(version) ? { version } : {}),
      })
    }
  }
  return found
}

function isShort(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MAX_NAME
}

/**
 * The target as this device can fulfil it: an app with an unmet contract is marked as rejected, and
 * optional services with an unmet one are left out, with what depended on them no longer waiting.
 */
export function applyContracts(target: Target, facts: ContractFacts): Target {
  return { ...target, apps: target.apps.map((app) => applyToApp(app, facts)) }
}

function applyToApp(app: TargetApp, facts: ContractFacts): TargetApp {
  const unmet = new Map<TargetService, string>()
  for (const service of app.services) {
    const why = service.contract?.requires.find((requirement) => !isMet(requirement, facts))
    if (why !== undefined) unmet.set(service, describe(why))
  }
  const fatal = [...unmet].filter(([service]) => !service.optional)
  if (fatal.length > 0) {
    const reasons = fatal.map(([service, why]) => `service ${service.serviceName} requires ${why}`)
    return { ...app, rejected: `this device does not fulfil the contract: ${reasons.join(', ')}` }
  }
  if (unmet.size === 0) return app
  return { ...app, services: without(app.services, unmet) }
}

/** Also without those that would share the network of one that is left out. */
function without(
  services: readonly TargetService[],
  unmet: ReadonlyMap<TargetService, unknown>,
): TargetService[] {
  let kept = services.filter((service) => !unmet.has(service))
  let before = -1
  while (kept.length !== before) {
    before = kept.length
    const names = new Set(kept.map(({ serviceName }) => serviceName))
    kept = kept.filter(({ composition: { network_mode: mode } }) => {
      return mode?.kind !== 'service' || names.has(mode.serviceName)
    })
  }
  const names = new Set(kept.map(({ serviceName }) => serviceName))
  return kept.map((service) => ({
    ...service,
    dependsOn: service.dependsOn.filter(({ serviceName }) => names.has(serviceName)),
  }))
}

function isMet(requirement: ContractRequirement, facts: ContractFacts): boolean {
  if ('or' in requirement) return requirement.or.some((one) => isMet(one, facts))
  const { type, slug, version } = requirement
  if (!Object.hasOwn(facts, type)) return false
  const fact: { slug?: string; version?: string } | undefined = facts[type as keyof ContractFacts]
  if (fact === undefined) return false
  if (slug !== undefined && slug !== fact.slug) return false
  return version === undefined || inRange(fact.version ?? '', version)
}

function describe(requirement: ContractRequirement): string {
  if ('or' in requirement) return requirement.or.map(describe).join(' or ') || 'nothing possible'
  return [requirement.type, requirement.slug, requirement.version].filter(Boolean).join(' ')
}
