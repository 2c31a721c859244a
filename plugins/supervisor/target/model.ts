import type { Composition, NetworkComposition, VolumeComposition } from './composition-model.ts'

/**
 * What a device shall run, in one form whatever form it came in (spec §9.1 to §9.3). Plain data:
 * checked, bounded, and safe to keep as JSON.
 */
export interface Target {
  /** Undefined: the device keeps the name it has. */
  readonly deviceName: string | undefined
  /** Configuration variables as they came (names may hold `:`). */
  readonly config: Readonly<Record<string, string>>
  /** In the order of the target; ids and UUIDs are unique. */
  readonly apps: readonly TargetApp[]
}

/** `fleet` is what a device belongs to; the others may run beside it. */
export type AppClass = 'fleet' | 'app' | 'block'

export interface TargetApp {
  readonly appId: number
  /** In a v2 target the app id in digits. */
  readonly uuid: string
  readonly name: string
  readonly class: AppClass
  readonly isHost: boolean
  /** UUID of the app this one belongs to. */
  readonly parentApp: string | undefined
  /** Undefined together with {@link releaseId}: the app has no release and so no services. */
  readonly commit: string | undefined
  readonly releaseId: number | undefined
  readonly services: readonly TargetService[]
  /** Without the `default` one that every app has (spec §13.3), unless the target names it. */
  readonly networks: Readonly<Record<string, NetworkComposition>>
  readonly volumes: Readonly<Record<string, VolumeComposition>>
  /** Why it must be left untouched: a contract that this device does not fulfil (spec §9.4). */
  readonly rejected: string | undefined
}

export interface TargetService {
  readonly serviceName: string
  readonly serviceId: number
  /** Number of the image in the release; not the engine's id. */
  readonly imageId: number
  /** Reference to pull: `host/name:tag` or `host/name@sha256:…`. */
  readonly image: string
  readonly running: boolean
  readonly environment: Readonly<Record<string, string>>
  /** With the prefix `io.balena.` where the target has the older `io.resin.`. */
  readonly labels: Readonly<Record<string, string>>
  readonly composition: Composition
  /** Known services of the same app, without repetition; acyclic. */
  readonly dependsOn: readonly Dependency[]
  /** An unmet contract leaves out only this service. */
  readonly optional: boolean
  readonly contract: Contract | undefined
}

/** What has to be true of the other service before this one is started. */
export type DependencyCondition = 'started' | 'healthy' | 'completed'

export interface Dependency {
  readonly serviceName: string
  readonly condition: DependencyCondition
}

/** The part of a contract that is looked at. */
export interface Contract {
  readonly requires: readonly ContractRequirement[]
}

/** One requirement; alternatives are met when one of them is. */
export type ContractRequirement =
  | { readonly type: string; readonly slug?: string; readonly version?: string }
  | { readonly or: readonly ContractRequirement[] }

/** A part of a target that is understood but will not have the effect it asks for. */
export interface TargetWarning {
  /** Where, as in a {@link TargetIssue}. */
  readonly path: string
  readonly message: string
}

/** What makes a target unusable. */
export interface TargetIssue {
  /** Dotted, from the top: `local.apps.1.services.2.image`; empty for the whole. */
  readonly path: string
  /** Quotes no values: they may be secret. */
  readonly message: string
}
