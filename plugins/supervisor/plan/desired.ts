import type { Dependency } from '../target/model.ts'

/** The target as a plan sees it: names, hashes and relations. Made by `desiredState`. */
export interface Desired {
  readonly apps: readonly DesiredApp[]
}

export interface DesiredApp {
  readonly appId: number
  readonly commit: string | undefined
  readonly releaseId: number | undefined
  /** A rejected app and all it has stay as they are. */
  readonly rejected: string | undefined
  readonly services: readonly DesiredService[]
  readonly networks: readonly DesiredObject[]
  readonly volumes: readonly DesiredObject[]
}

/** A network or volume. */
export interface DesiredObject {
  /** As the target calls it. */
  readonly shortName: string
  /** As the engine calls it. */
  readonly name: string
  readonly hash: string
}

/** Spec §15. */
export type UpdateStrategy =
  | 'download-then-kill'
  | 'kill-then-download'
  | 'delete-then-download'
  | 'hand-over'

export interface DesiredService {
  readonly serviceName: string
  /** Reference to pull. */
  readonly image: string
  /** Name of the container (spec §13.1). */
  readonly name: string
  readonly hash: string
  /** Field names to masked values, for naming what changed. */
  readonly fields: Readonly<Record<string, string>>
  readonly running: boolean
  readonly strategy: UpdateStrategy
  readonly handoverTimeoutMs: number
  readonly dependsOn: readonly Dependency[]
  /** Engine names of the networks and volumes it needs. */
  readonly networks: readonly string[]
  readonly volumes: readonly string[]
  /** The service whose network it shares; is among {@link dependsOn}. */
  readonly networkOf: string | undefined
  readonly usesSupervisorNetwork: boolean
  /** Started only when the machine was booted after the container was created. */
  readonly requiresReboot: boolean
}
