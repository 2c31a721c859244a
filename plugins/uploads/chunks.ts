import type { FileHandle } from 'node:fs/promises'

const CHUNK_BYTES = 256 * 1024

/** A range of a file in bytes; the end is exclusive and may lie beyond the file's. */
export interface Range {
  readonly start: number
  readonly end: number
}

/**
 * Hands a file's content on, piece by piece, each only once the one before was dealt with. A piece
 * is valid until then; its memory is used again.
 *
 * @throws {Error} The system error of a failed read, or what `use` throws.
 */
export async function readChunks(
  handle: FileHandle,
  use: (chunk: Uint8Array, position: number) => unknown,
  { start, end }: Range = { start: 0, end: Number.POSITIVE_INFINITY },
): Promise<void> {
  const buffer = new Uint8Array(CHUNK_BYTES)
  let at = start
  while (at < end) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(CHUNK_BYTES, end - at), at)
    if (bytesRead === 0) return
    await use(buffer.subarray(0, bytesRead), at)
    at += bytesRead
  }
}

/**
 * Writes a whole piece at a position; one `write` may take less.
 *
 * @throws {Error} The system error.
 */
export async function writeAll(
  handle: FileHandle,
  chunk: Uint8Array,
  position: number,
): Promise<void> {
  let done = 0
  while (done < chunk.byteLength) {
    const rest = chunk.byteLength - done
    done += (await handle.write(chunk, done, rest, position + done)).bytesWritten
  }
}

/**
 * Copies a file's content to another one, each piece to the position it has, and gives the pieces
 * to `observe` as well.
 *
 * @throws {Error} The system error.
 */
export function copy(
  from: FileHandle,
  to: FileHandle,
  options: { readonly range?: Range; readonly observe?: (chunk: Uint8Array) => void } = {},
): Promise<void> {
  return readChunks(
    from,
    async (chunk, position) => {
      options.observe?.(chunk)
      await writeAll(to, chunk, position)
    },
    options.range,
  )
}
