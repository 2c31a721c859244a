import { closeSync, constants, fsyncSync, openSync, renameSync, writeSync } from 'node:fs'
import { type FileHandle, link, lstat, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { EventLog } from '../../src/events/log.ts'
import { syncDirectory, temporaryBeside } from '../../src/files/atomic-file.ts'
import type { Journal } from './journal.ts'
import { LineFramer } from './line-framer.ts'
import { makeFifo, notAPipe } from './make-fifo.ts'
import { leadingTime } from './timestamps.ts'

/** Newest bytes of a file that are taken in. */
const MAX_BYTES = 64 * 1024 * 1024

const NOTE = 'early.json'

/** What is needed to take a file in exactly once over a crash. */
export interface EarlyFileOptions {
  readonly log: EventLog
  readonly maxLineBytes: number
  /** Present with persistence: lines that are in it are not taken in again. */
  readonly journal?: Journal | undefined
  /** Folder for the note of how far the taking in came. */
  readonly stateDir: string
}

/** Made before lines are taken in: the journal holds them from this sequence number on. */
interface Note {
  /** Device and inode of the file. */
  readonly file: string
  /** Where taking in began: 0 unless the file was larger than the limit. */
  readonly from: number
  /** Lines taken in by earlier attempts. */
  readonly lines: number
  /** Sequence number of the first line of this attempt. */
  readonly seq: number
}

/** Where the lines written before the daemon ran wait to be taken in. */
export function earlyPath(path: string): string {
  return `${path}.early`
}

/**
 * Puts a FIFO in the place of a regular file, in one rename, so that no writer finds the path
 * empty; the file stays beside it until {@link takeIn} is done with it.
 *
 * A link is refused: in a folder others may write to, it could lead to any file of the system.
 *
 * @throws {Error} When the file is not a plain one of its own, or cannot be replaced.
 */
export async function replaceByFifo(path: string, mode: number): Promise<void> {
  const early = earlyPath(path)
  const file = await lstat(path)
  const kept = await lstat(early).catch(() => undefined)
  // Two names after a crash between the two steps below.
  const resumed = kept !== undefined && kept.ino === file.ino && kept.dev === file.dev
  if (!file.isFile() || file.nlink !== (resumed ? 2 : 1)) throw notAPipe(path)
  if (!resumed) await link(path, early)
  const temporary = temporaryBeside(path)
  try {
    await makeFifo(temporary, mode)
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
  await syncDirectory(dirname(path))
}

/** What {@link takeIn} did. */
export interface TakenIn {
  readonly lines: number
  /** Bytes at the beginning of an oversized file that were left out. */
  readonly skipped: number
}

/**
 * Appends the lines of a file that stood in the FIFO's place as events of the source `fifo`, each
 * with the time it starts with, or else the file's, and removes the file once they are safe: in
 * the journal where there is one. A crash in between neither loses nor doubles a line, because
 * the lines are appended in one go and a note says where in the journal they begin.
 *
 * @returns Undefined when there is no such file, or it cannot be removed yet.
 * @throws {Error} When the file is not a plain one of its own.
 */
export async function takeIn(
  path: string,
  options: EarlyFileOptions,
): Promise<TakenIn | undefined> {
  const early = earlyPath(path)
  const file = await openOwn(early)
  if (!file) return undefined
  try {
    const { dev, ino } = await file.stat()
    const identity = `${dev}:${ino}`
    const notePath = join(options.stateDir, NOTE)
    const note = options.journal && (await readNote(notePath, identity))
    const from = note?.from ?? Math.max(0, (await file.stat()).size - MAX_BYTES)
    const total = await appendLines(file, from, options, note, (seq, lines) => {
      if (options.journal) writeNote(notePath, { file: identity, from, lines, seq })
    })
    await rm(early)
    await syncDirectory(dirname(early))
    await forgetNote(options.stateDir)
    return { lines: total, skipped: from }
  } finally {
    await file.close()
  }
}

/** Removes a note whose file is gone: a later file may get the same inode. */
export function forgetNote(stateDir: string): Promise<void> {
  return rm(join(stateDir, NOTE), { force: true })
}

/** Appends lines until the file has no more; returns how many. */
async function appendLines(
  file: FileHandle,
  from: number,
  options: EarlyFileOptions,
  note: Note | undefined,
  beforeAppending: (seq: number, lines: number) => void,
): Promise<number> {
  const { log, journal } = options
  let skip = note && journal ? note.lines + Math.max(0, journal.resumedAt - note.seq) : 0
  let done = 0
  let appended = 0
  for (let at = from; ; ) {
    const { size, mtimeMs } = await file.stat()
    if (size <= at) return appended
    const data = Buffer.alloc(Math.min(size - at, MAX_BYTES))
    const { bytesRead } = await file.read(data, 0, data.length, at)
    if (bytesRead === 0) return appended
    // From here to the last append nothing else runs, so the lines are numbered without a gap.
    beforeAppending(log.next, Math.max(done, skip))
    const framer = new LineFramer(options.maxLineBytes, (message, raw) => {
      done++
      if (skip >= done) return
      appended++
      const time = leadingTime(message) ?? mtimeMs
      log.append('fifo', message, raw ? { time, raw } : { time })
    })
    const start = at === from && from > 0 ? data.indexOf(10) + 1 : 0
    framer.push(data.subarray(start, bytesRead))
    framer.end()
    at += bytesRead
    // Lines that came meanwhile are new, however many events the journal got since the note.
    skip = Math.min(skip, done)
    await journal?.durable(log.next - 1)
  }
}

/** Opens a file that is no link and has no other name. */
async function openOwn(path: string): Promise<FileHandle | undefined> {
  let file: FileHandle
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  const stat = await file.stat()
  if (stat.isFile() && stat.nlink === 1) return file
  await file.close()
  throw new Error(`Cannot take in "${path}": it is not a plain file with one name`)
}

async function readNote(path: string, file: string): Promise<Note | undefined> {
  try {
    const note = JSON.parse(await readFile(path, 'utf8')) as Note
    return note.file === file ? note : undefined
  } catch {
    return undefined
  }
}

/** Synchronous, because no event may be appended between the note and the lines. */
function writeNote(path: string, note: Note): void {
  const temporary = temporaryBeside(path)
  const fd = openSync(temporary, 'wx', 0o600)
  try {
    writeSync(fd, JSON.stringify(note))
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(temporary, path)
}
