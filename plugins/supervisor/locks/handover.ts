import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { LockFolders } from './folders.ts'
import { look } from './lock-file.ts'

/** What a new container makes in its folder once it took over; either one will do (spec §15). */
export const HANDOVER_NAMES = ['handover-complete', 'resin-kill-me'] as const

/**
 * Whether a new container of the service said that it took over: anything of either name counts.
 *
 * @throws {Error} The system error, but not for a missing folder.
 */
export async function handoverComplete(
  folders: LockFolders,
  appId: number,
  service: string,
): Promise<boolean> {
  for (const path of paths(folders, appId, service)) if (await look(path)) return true
  return false
}

/**
 * Removes what an earlier hand-over left, before a new one begins.
 *
 * @throws {Error} The system error; for a folder of that name too, which has to go by hand.
 */
export async function clearHandover(
  folders: LockFolders,
  appId: number,
  service: string,
): Promise<void> {
  for (const path of paths(folders, appId, service)) await rm(path, { force: true })
}

function paths(folders: LockFolders, appId: number, service: string): string[] {
  const folder = folders.path(appId, service)
  return HANDOVER_NAMES.map((name) => join(folder, name))
}
