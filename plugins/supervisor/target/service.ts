import * as v from 'valibot'
import { readComposition } from './composition.ts'
import type { Composition } from './composition-model.ts'
import { readContract } from './contracts.ts'
import { readDependencies } from './dependencies.ts'
import { balenaLabels, isTruthy } from './labels.ts'
import { MAX_VARIABLES } from './limits.ts'
import type { TargetService } from './model.ts'
import type { JsonObject, Place } from './place.ts'
import { DIGEST, EnvironmentName, Id, ImageReference, LabelName, Running, Value } from './rules.ts'

/** How strictly a target is read. */
export interface ReadOptions {
  /** Images must be `name@sha256:…`. */
  readonly requireDigest: boolean
}

const Scalars = v.object({
  serviceId: Id,
  imageId: Id,
  image: ImageReference,
  running: v.optional(Running, true),
})

/** The parts of a service, which its two forms keep in different places. */
export interface ServiceParts {
  readonly serviceName: string
  /** What {@link Scalars} reads. */
  readonly scalars: JsonObject
  /** How the form calls them, for the paths of issues. */
  readonly names: Readonly<Record<keyof v.InferOutput<typeof Scalars>, string>>
  readonly environment: unknown
  readonly labels: unknown
  readonly contract: unknown
  readonly composition: JsonObject
  readonly compositionPlace: Place
  /** Members beside the composition's own fields. */
  readonly ignored: ReadonlySet<string>
}

/** One service; undefined after its issues were reported. */
export function readService(
  parts: ServiceParts,
  place: Place,
  options: ReadOptions,
): TargetService | undefined {
  const { serviceName, compositionPlace: at } = parts
  const result = v.safeParse(Scalars, parts.scalars)
  for (const issue of result.issues ?? []) {
    const field = v.getDotPath(issue) as keyof typeof parts.names | null
    place.in(field === null ? '' : parts.names[field]).issue(issue.message)
  }
  const environment = readRecord(
    parts.environment,
    place.in('environment'),
    EnvironmentName,
    MAX_VARIABLES,
  )
  const given = readRecord(parts.labels, place.in('labels'), LabelName, MAX_VARIABLES)
  const contract = readContract(parts.contract, place.in('contract'))
  const composition = readComposition(parts.composition, at, parts.ignored)
  const dependsOn = readDependencies(parts.composition.depends_on, at.in('depends_on'))
  if (result.success && options.requireDigest && !DIGEST.test(result.output.image)) {
    place.in(parts.names.image).issue('must name its image by digest: "name@sha256:…"')
  }
  if (!result.success || environment === undefined || given === undefined) return undefined
  const labels = balenaLabels(given)
  const optional = isTruthy(labels[OPTIONAL] ?? balenaLabels(composition.labels ?? {})[OPTIONAL])
  return {
    serviceName,
    ...result.output,
    environment,
    labels,
    composition,
    dependsOn: withNetworkOwner(dependsOn, composition),
    optional,
    contract,
  }
}

const OPTIONAL = 'io.balena.features.optional'

/** A service that shares the network of another one depends on it (spec §10). */
function withNetworkOwner(
  dependsOn: TargetService['dependsOn'],
  { network_mode: mode }: Composition,
): TargetService['dependsOn'] {
  if (mode?.kind !== 'service') return dependsOn
  if (dependsOn.some(({ serviceName }) => serviceName === mode.serviceName)) return dependsOn
  return [...dependsOn, { serviceName: mode.serviceName, condition: 'started' }]
}

/** A map of strings whose names follow a rule. */
export function readRecord(
  value: unknown,
  place: Place,
  name: v.GenericSchema<string, string>,
  most: number,
): Record<string, string> | undefined {
  const record = place.object(value, most)
  if (record === undefined) return undefined
  const entries: [string, string][] = []
  for (const [key, given] of Object.entries(record)) {
    const at = place.in(key)
    const known = at.read(key, name)
    const text = at.read(given, Value)
    if (known !== undefined && text !== undefined) entries.push([known, text])
  }
  return Object.fromEntries(entries)
}
