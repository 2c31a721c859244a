import { LockFolderError } from './lock-error.ts'

/** The files that lock a service, in its folder; either one does (spec §8.1). */
export const LOCK_NAMES = ['updates.lock', 'resin-updates.lock'] as const

/** Where a service's container sees its folder (spec §8.1). */
export const CONTAINER_FOLDERS = ['/tmp/balena', '/tmp/resin'] as const

/** Names of services (spec §9.1), no longer than a file's name. They cannot leave a folder. */
const SERVICE_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/

/** Whether a text can be the name of a service, and so of a folder. */
export function isServiceName(text: string): boolean {
  return SERVICE_NAME.test(text)
}

/** Reads the name of an app's folder: an app id in its shortest decimal form, or undefined. */
export function parseAppId(text: string): number | undefined {
  if (!/^(0|[1-9][0-9]{0,15})$/.test(text)) return undefined
  const id = Number(text)
  return Number.isSafeInteger(id) ? id : undefined
}

/** @throws {LockFolderError} Unless it is a whole number from 0. */
export function assertAppId(appId: number): void {
  if (Number.isSafeInteger(appId) && appId >= 0) return
  throw new LockFolderError(`Cannot lock app ${appId}: an app id is a whole number from 0`)
}

/** @throws {LockFolderError} Unless it can be the name of a service. */
export function assertServiceName(service: string): void {
  if (isServiceName(service)) return
  throw new LockFolderError(
    `Cannot lock service ${JSON.stringify(service.slice(0, 64))}: a name has letters, digits and ` +
      '"_.-", starts with a letter or digit, and has at most 255 characters',
  )
}
