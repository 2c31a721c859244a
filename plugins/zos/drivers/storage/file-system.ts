import { type RunTool, ToolError } from '../tools.ts'
import { firstBytes } from './folders.ts'

/** What disks of containers are formatted with. */
export type FileSystem = 'ext4' | 'btrfs'

/** Making one takes its time on a large disk. */
const FORMAT_MS = 300_000

/** More than the first sectors of any partition table, boot loader or file system. */
const HEAD_BYTES = 1024 * 1024

/** What a disk holds, by its first bytes. */
export interface Content {
  /** Known file systems; `blank` for a disk that was never written to. */
  readonly kind: FileSystem | 'blank' | 'unknown'
  /** Bytes of the device that the file system uses. */
  readonly bytes: bigint
}

export async function contentOf(path: string): Promise<Content> {
  const head = await firstBytes(path, HEAD_BYTES)
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength)
  if (head.length >= BTRFS_SUPER + 0x78) {
    // BTRFS_MAGIC and total_bytes of struct btrfs_super_block, fs/btrfs/accessors.h.
    const magic = new TextDecoder().decode(head.subarray(BTRFS_SUPER + 0x40, BTRFS_SUPER + 0x48))
    const bytes = view.getBigUint64(BTRFS_SUPER + 0x70, true)
    if (magic === '_BHRfS_M') return { kind: 'btrfs', bytes }
  }
  // s_magic of struct ext4_super_block, fs/ext4/ext4.h.
  if (head.length >= EXT4_SUPER + 1024 && view.getUint16(EXT4_SUPER + 0x38, true) === 0xef53) {
    return { kind: 'ext4', bytes: ext4Bytes(view) }
  }
  return { kind: head.every((byte) => byte === 0) ? 'blank' : 'unknown', bytes: 0n }
}

/** Where the superblocks are. */
const EXT4_SUPER = 1024
const BTRFS_SUPER = 0x10000

/** s_blocks_count_lo, s_blocks_count_hi (with the feature 64bit) and s_log_block_size. */
function ext4Bytes(view: DataView): bigint {
  const low = view.getUint32(EXT4_SUPER + 0x04, true)
  const wide = (view.getUint32(EXT4_SUPER + 0x60, true) & 0x80) !== 0
  const high = wide ? view.getUint32(EXT4_SUPER + 0x150, true) : 0
  const log = view.getUint32(EXT4_SUPER + 0x18, true)
  return (BigInt(high) * 2n ** 32n + BigInt(low)) << BigInt(10 + (log & 15))
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

/** Makes a mounted file system as large as its device is now. */
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

/**
 * Makes an ext4 as large as its file. The kernel lets a mounted one grow only with CAP_SYS_RESOURCE,
 * which containers lack. Nobody may have it mounted.
 */
export async function growUnmounted(run: RunTool, path: string): Promise<void> {
  try {
    await run(['e2fsck', '-f', '-p', path], { timeoutMs: FORMAT_MS })
  } catch (error) {
    // 1: errors were corrected (e2fsck(8)).
    if (!(error instanceof ToolError && error.exitCode === 1)) throw error
  }
  await run(['resize2fs', path], { timeoutMs: FORMAT_MS })
}
