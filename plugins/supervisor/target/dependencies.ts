import { MAX_ITEMS } from './limits.ts'
import type { Dependency, DependencyCondition } from './model.ts'
import { isObject, type Place } from './place.ts'
import { readNamed } from './values.ts'

const CONDITIONS: Readonly<Record<string, DependencyCondition>> = {
  service_started: 'started',
  service_healthy: 'healthy',
  service_completed_successfully: 'completed',
}

/** `depends_on` of compose: a list of names, or a map to `{condition}`; one entry per service. */
export function readDependencies(value: unknown, place: Place): Dependency[] {
  if (value === undefined || value === null) return []
  const entries = readNamed(value)
  if (entries === undefined) {
    place.issue(`must be a list or an object of at most ${MAX_ITEMS} services`)
    return []
  }
  const found = new Map<string, Dependency>()
  for (const [serviceName, how] of entries) {
    const condition = readCondition(how, place.in(serviceName))
    found.set(serviceName, { serviceName, condition })
  }
  return [...found.values()]
}

function readCondition(how: unknown, place: Place): DependencyCondition {
  const given = isObject(how) ? how.condition : undefined
  if (given === undefined) return 'started'
  if (typeof given === 'string' && Object.hasOwn(CONDITIONS, given)) {
    return CONDITIONS[given] ?? 'started'
  }
  place.warn('counts as "service_started": its condition is not known')
  return 'started'
}

/** A service with what it needs before it, and where it stands in the target. */
interface Node {
  readonly serviceName: string
  readonly dependsOn: readonly Dependency[]
}

/**
 * A chain of services each of which needs the next, and the last the first: `["a", "b", "a"]`.
 * Undefined when there is none. Services that are not among the given ones count as no dependency.
 */
export function findCycle(services: readonly Node[]): string[] | undefined {
  const byName = new Map(services.map((service) => [service.serviceName, service]))
  const done = new Set<string>()
  for (const service of services) {
    const cycle = follow(service, byName, done)
    if (cycle !== undefined) return cycle
  }
  return undefined
}

/** Depth first with a list of its own: a chain may be as long as an app has services. */
function follow(
  from: Node,
  byName: ReadonlyMap<string, Node>,
  done: Set<string>,
): string[] | undefined {
  const path = [{ node: from, next: 0 }]
  const onPath = new Set([from.serviceName])
  while (true) {
    const top = path.at(-1)
    if (top === undefined) return undefined
    const dependency = top.node.dependsOn[top.next++]
    if (dependency === undefined || done.has(top.node.serviceName)) {
      done.add(top.node.serviceName)
      onPath.delete(top.node.serviceName)
      path.pop()
      continue
    }
    if (onPath.has(dependency.serviceName)) {
      const names = path.map(({ node }) => node.serviceName)
      return [...names.slice(names.indexOf(dependency.serviceName)), dependency.serviceName]
    }
    const node = byName.get(dependency.serviceName)
    if (node === undefined || done.has(node.serviceName)) continue
    onPath.add(node.serviceName)
    path.push({ node, next: 0 })
  }
}
