import type { RunTool } from '../tools.ts'

/** Many files take their time. */
const REMOVE_MS = 600_000

/**
 * Removes a folder that containers wrote to, and all in it, following no link. By rm(1), which walks
 * by descriptors: paths in there may be longer than the kernel takes, and made to lead elsewhere.
 *
 * @param crossing Whether also what is on other file systems, as the subvolumes of btrfs are.
 */
export async function removeTree(run: RunTool, path: string, crossing = false): Promise<void> {
  const flags = crossing ? ['-rf'] : ['-rf', '--one-file-system']
  await run(['rm', ...flags, '--', path], { timeoutMs: REMOVE_MS })
}
