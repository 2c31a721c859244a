import { firstBytes } from './folders.ts'
import type { RunTool } from './tools.ts'

/** What disks of containers are formatted with. */
export type FileSystem = 'ext4' | 'btrfs'

/** Making one takes its time on a large disk. */
const FORMAT_MS = 300_000

/** More than the first sectors of any partition table, boot loader or file system. */
const HEAD_BYTES = 1024 * 1024

/** The content of a disk, by its first bytes. */
export async function contentOf(path: string): Promise<FileSystem | 'blank' | 'unknown'> {
  const head = await firstBytes(path, HEAD_BYTES)
  // s_magic of fs/ext4/ext4.h, at 0x38 of the superblock at 1024.
  if (head[1080] === 0x53 && head[1081] === 0xef) return 'ext4'
  // BTRFS_MAGIC of fs/btrfs/disk-io.h, at 0x40 of the superblock at 64 KiB.
  const magic = head.subarray(0x10040, 0x10048)
  if (new TextDecoder().decode(magic) === '_BHRfS_M') return 'btrfs'
  return head.every((byte) => byte === 0) ? 'blank' : 'unknown'
}

/** Makes an empty file system as large as a file; the file must be blank. */
export async function format(
  run: RunTool,
  path: string,
  kind: FileSystem,
  signal?: AbortSignal,
): Promise<void> {
  // Nothing is discarded: room that was allocated for the file stays so.
  const argv =
    kind === 'ext4'
      ? ['mkfs.ext4', '-q', '-F', '-m', '0', '-E', 'nodiscard,lazy_itable_init=1', path]
      : ['mkfs.btrfs', '-q', '-f', '-K', '--mixed', path]
  await run(argv, { timeoutMs: FORMAT_MS, signal })
}

/** Makes a mounted file system as large as its device is now; nothing to do is no error. */
export async function growMounted(
  run: RunTool,
  kind: FileSystem,
  device: string,
  folder: string,
): Promise<void> {
  const argv =
    kind === 'ext4' ? ['resize2fs', device] : ['btrfs', 'filesystem', 'resize', 'max', folder]
  await run(argv, { timeoutMs: FORMAT_MS })
}
