import type { TargetApp, TargetService } from '../target/model.ts'

/** In front of the name of a container that makes room for its successor (spec §13.1). */
const OLD = 'old_'

/** What the name of a container tells beside its service. */
export interface ReleaseName {
  readonly imageId: number
  readonly releaseId: number
  readonly commit: string | undefined
}

/** `<serviceName>_<imageId>_<releaseId>_<commit>` (spec §13.1). */
export function containerName(
  { serviceName, imageId }: Pick<TargetService, 'serviceName' | 'imageId'>,
  { releaseId, commit }: Pick<TargetApp, 'releaseId' | 'commit'>,
): string {
  return `${serviceName}_${imageId}_${releaseId ?? 0}_${commit ?? ''}`
}

/** Reads a container's name back; undefined for a name that no supervisor gave. */
export function readContainerName(name: string): ReleaseName | undefined {
  const match = /^.*_([0-9]{1,16})_([0-9]{1,16})(?:_(.*?))?$/.exec(name)
  if (match === null) return undefined
  const [, imageId, releaseId, commit] = match
  return { imageId: Number(imageId), releaseId: Number(releaseId), commit: commit || undefined }
}

/** The name while a hand-over goes on. */
export function oldName(name: string): string {
  return `${OLD}${name}`
}

/** Whether a container of the service has the name of one that makes room. */
export function isOldName(name: string, serviceName: string): boolean {
  return name.startsWith(`${OLD}${serviceName}_`)
}

/** The name it had before. */
export function withoutOld(name: string): string {
  return name.slice(OLD.length)
}

/** Spec §13.2. */
export function volumeName(appId: number, name: string): string {
  return `${appId}_${name}`
}

/** Spec §13.3. */
export function networkName(appUuid: string, name: string): string {
  return `${appUuid}_${name}`
}
