import { type FileHandle, open } from 'node:fs/promises'
import { StringDecoder } from 'node:string_decoder'
import { setTimeout as sleep } from 'node:timers/promises'
import { errnoOf } from '../../../../src/errors.ts'
import type { MachineLogLine, MachineLogs } from '../machine-logs.ts'
import { isMachineApiError, machineApi } from './api.ts'
import { machineStore } from './machine-files.ts'

/** Longer lines are cut in pieces. */
const MAX_LINE_CHARACTERS = 64 * 1024
/** Read from the end for the last lines. */
const MAX_TAIL_BYTES = 1024 * 1024
const CHUNK_BYTES = 64 * 1024
const POLL_MS = 250
/** Looks at the file between two at the machine. */
const POLLS_PER_LOOK = 20

export interface HypervisorLogsOptions {
  /** As the machine drivers have them. */
  readonly folder: string
  readonly runFolder: string
}

/** What virtual machines of this host write to their serial line. Lines have no times. */
export function hypervisorLogs({ folder, runFolder }: HypervisorLogsOptions): MachineLogs {
  const store = machineStore(folder, runFolder)
  return {
    async *follow(machineId, { tail, since, signal }) {
      const { serialLog, socket } = store.files(machineId)
      const handle = await openLog(serialLog)
      if (handle === undefined) return
      try {
        const from = since === undefined ? 'tail' : await startAfter(handle, since)
        const api = machineApi({ socketPath: socket })
        yield* linesOf(handle, { from, tail, signal, runs: () => answers(api, signal) })
      } finally {
        await handle.close()
      }
    },
  }
}

interface Follow {
  /** Where to begin: at an offset, or with the last lines. */
  readonly from: number | 'tail'
  readonly tail: number
  readonly signal: AbortSignal
  /** Whether more may come. */
  readonly runs: () => Promise<boolean>
}

async function* linesOf(
  handle: FileHandle,
  { from, tail, signal, runs }: Follow,
): AsyncGenerator<MachineLogLine> {
  const { size } = await handle.stat()
  let at = from === 'tail' ? Math.max(0, size - MAX_TAIL_BYTES) : from
  const buffer = Buffer.alloc(CHUNK_BYTES)
  const decoder = new StringDecoder('utf8')
  let rest = ''
  const take = async (): Promise<string[]> => {
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, at)
    at += bytesRead
    const parts = `${rest}${decoder.write(buffer.subarray(0, bytesRead))}`.split('\n')
    rest = parts.pop() ?? ''
    while (rest.length > MAX_LINE_CHARACTERS) {
      parts.push(rest.slice(0, MAX_LINE_CHARACTERS))
      rest = rest.slice(MAX_LINE_CHARACTERS)
    }
    return parts.map(cleaned)
  }
  if (from === 'tail') {
    const last: string[] = []
    while (at < size) {
      last.push(...(await take()))
      last.splice(0, Math.max(0, last.length - tail))
    }
    for (const text of last) yield { text }
  }
  for (let poll = 1; ; poll++) {
    signal.throwIfAborted()
    const { size: now } = await handle.stat()
    // It was cut; a hypervisor that keeps its place leaves a hole before what comes next.
    if (now > 0 && now < at) at = 0
    if (now > at) {
      for (const text of await take()) yield { text }
      continue
    }
    // Another file, of another start, is another log.
    const over = poll % POLLS_PER_LOOK === 0 && !(await runs())
    if (over && (await handle.stat()).size <= at) break
    if (!over) await sleep(POLL_MS, undefined, { signal })
  }
  if (rest !== '') yield { text: cleaned(rest) }
}

/** Holes are zeros; a serial line ends its lines with two characters. */
function cleaned(line: string): string {
  return line.replaceAll('\0', '').replace(/\r+$/, '')
}

async function answers(api: ReturnType<typeof machineApi>, signal: AbortSignal): Promise<boolean> {
  try {
    return (await api.state(signal)) !== undefined
  } catch (error) {
    signal.throwIfAborted()
    return !isMachineApiError(error, 'GONE')
  }
}

/** Of a log that began after that time all, of any other nothing of what is there. */
async function startAfter(handle: FileHandle, since: string): Promise<number> {
  const { birthtimeMs, size } = await handle.stat()
  return birthtimeMs >= Date.parse(since) ? 0 : size
}

function openLog(path: string): Promise<FileHandle | undefined> {
  return open(path, 'r').catch((error) => {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  })
}
