import { type FileHandle, open } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type EventLogEntry, MAX_EVENTS } from '../attest/event-log.ts'
import { fromHex, sameBytes } from '../attest/hex.ts'
import { extended } from '../attest/replay.ts'
import { runtimeEntry } from '../attest/runtime-event.ts'
import type { CallOptions } from '../device/devices.ts'
import { ApiError, errnoOf, messageOf } from '../errors.ts'
import { makeFolder } from '../files/make-folder.ts'
import type { RuntimeEvents } from './attester.ts'
import { deviceProblem } from './problems.ts'

const MAX_NAME_BYTES = 1024
const MAX_PAYLOAD_BYTES = 64 * 1024
/** Half of what verifiers read of one log, of which the boot wrote a part. */
const MAX_RUNTIME_EVENTS = MAX_EVENTS / 2
/** Names and payloads of all events. Evidence repeats them as hex, and verifiers bound its size. */
const MAX_LOG_BYTES = 1024 * 1024
const MAX_FILE_BYTES = 64 * 1024 * 1024

/** What the log is kept in step with. */
export interface RuntimeRegister {
  /** Why no event can be measured on this machine; undefined when one can. */
  readonly unsupported: string | undefined
  extend(digest: Uint8Array, options?: CallOptions): Promise<void>
  /** The register's value now, 48 bytes. */
  read(): Promise<Uint8Array>
}

/** A line of the file, as dstack's own agent writes and reads it. */
interface Line {
  readonly event: string
  /** Base64. */
  readonly payload: string
  readonly version?: 1 | 2
}

/**
 * The log of runtime events: RTMR3 is extended first, then the event is appended, one at a time.
 * A verifier replays the log against the register, so the two must never part: once they did, or
 * may have, no further event is taken. Whether other software extended the register is looked at
 * before each event.
 *
 * The file lives as long as the register does, from one boot of the machine to the next, so it
 * belongs into a folder that a reboot empties. Other software of the guest may have begun it.
 */
export class RuntimeEventLog implements RuntimeEvents {
  #register: RuntimeRegister
  /** Undefined keeps the log in memory only, for a register that ends with this process. */
  readonly #file: string | undefined
  #entries: EventLogEntry[] = []
  /** Names and payloads of the entries. */
  #bytes = 0
  /** What the register must hold after the entries. */
  #value: Uint8Array = new Uint8Array(48)
  /** Why no event is taken any more. */
  #broken: string | undefined
  #loaded: Promise<void> | undefined
  /** The last of the events in hand: each waits for the one before it. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(register: RuntimeRegister, file: string | undefined) {
    this.#register = register
    this.#file = file
  }

  /** Reaches the same register in another way from now on. */
  reach(register: RuntimeRegister): void {
    this.#register = register
  }

  async list(): Promise<readonly EventLogEntry[]> {
    await this.#load()
    // An event in hand may be in the register and not yet here.
    await this.#turn
    return [...this.#entries]
  }

  async emit(name: string, payload: Uint8Array, options: CallOptions = {}): Promise<void> {
    checkEvent(name, payload)
    await this.#load()
    const run = this.#turn.then(() => this.#emitNow(name, payload, options))
    this.#turn = run.catch(() => undefined)
    return run
  }

  async #emitNow(name: string, payload: Uint8Array, options: CallOptions): Promise<void> {
    if (this.#register.unsupported !== undefined) {
      const why = `Cannot measure the event "${name}": ${this.#register.unsupported}`
      throw new ApiError(400, 'EVENTS_UNSUPPORTED', why)
    }
    if (this.#broken !== undefined) throw outOfStep(name, this.#broken)
    this.#expectRoom(name, payload)
    await this.#expectInStep(name)
    options.signal?.throwIfAborted()
    const entry = runtimeEntry({ name, payload, version: 1 })
    const digest = fromHex(entry.digest, 'digest')
    await this.#extend(digest, extended(this.#value, digest), options)
    try {
      await this.#append({ event: name, payload: Buffer.from(payload).toString('base64') })
    } catch (error) {
      this.#broken = `the register was extended, but the event was not logged: ${messageOf(error)}`
      throw outOfStep(name, this.#broken)
    }
    this.#take(entry)
  }

  #expectRoom(name: string, payload: Uint8Array): void {
    const full = (limit: string) => {
      const why = `Cannot measure the event "${name}": ${limit} are the limit of the log`
      return new ApiError(409, 'EVENTS_FULL', why)
    }
    if (this.#entries.length >= MAX_RUNTIME_EVENTS) throw full(`${MAX_RUNTIME_EVENTS} events`)
    const bytes = this.#bytes + Buffer.byteLength(name) + payload.byteLength
    if (bytes > MAX_LOG_BYTES) throw full(`${MAX_LOG_BYTES} bytes`)
  }

  async #expectInStep(name: string): Promise<void> {
    const now = await this.#register.read().catch((error) => {
      throw deviceProblem(error)
    })
    if (sameBytes(now, this.#value)) return
    this.#broken =
      'RTMR3 is not what the log of runtime events replays to: something else extends it'
    throw outOfStep(name, this.#broken)
  }

  /** Adds an event that the register holds. */
  #take(entry: EventLogEntry): void {
    this.#entries.push(entry)
    this.#bytes += Buffer.byteLength(entry.event) + entry.event_payload.length / 2
    this.#value = extended(this.#value, fromHex(entry.digest, 'digest'))
  }

  /** Extends, and after a failure looks whether the register moved all the same. */
  async #extend(digest: Uint8Array, next: Uint8Array, options: CallOptions): Promise<void> {
    try {
      await this.#register.extend(digest, options)
    } catch (error) {
      const now = await this.#register.read().catch(() => undefined)
      if (now !== undefined && sameBytes(now, next)) return
      if (now === undefined || !sameBytes(now, this.#value)) {
        this.#broken = `extending RTMR3 failed and its value is not known: ${messageOf(error)}`
      }
      throw deviceProblem(error)
    }
  }

  async #append(line: Line): Promise<void> {
    if (this.#file === undefined) return
    makeFolder(dirname(this.#file), 0o700)
    const file = await open(this.#file, 'a', 0o600)
    try {
      await file.appendFile(`${JSON.stringify(line)}\n`)
      await file.datasync()
    } finally {
      await file.close()
    }
  }

  /** Reads the file, once. What is wrong with it is kept and said to whoever wants to emit. */
  #load(): Promise<void> {
    this.#loaded ??= this.#read().catch((error) => {
      this.#broken = `the log of runtime events cannot be read: ${messageOf(error)}`
    })
    return this.#loaded
  }

  async #read(): Promise<void> {
    const lines = this.#file === undefined ? [] : await readLines(this.#file)
    for (const { event, payload, version = 1 } of lines) {
      this.#take(runtimeEntry({ name: event, payload: Buffer.from(payload, 'base64'), version }))
    }
  }
}

function checkEvent(name: string, payload: Uint8Array): void {
  const bytes = Buffer.byteLength(name)
  if (bytes === 0 || bytes > MAX_NAME_BYTES) {
    const why = `Cannot measure an event: its name has ${bytes} bytes, expected 1 to ${MAX_NAME_BYTES}`
    throw new ApiError(400, 'EVENT_NAME', why)
  }
  if (/\p{Cs}/u.test(name)) {
    const why = 'Cannot measure an event: its name holds half of a surrogate pair, expected text'
    throw new ApiError(400, 'EVENT_NAME', why)
  }
  if (payload.byteLength <= MAX_PAYLOAD_BYTES) return
  const size = payload.byteLength
  const why = `Cannot measure the event "${name}": its payload has ${size} bytes, at most ${MAX_PAYLOAD_BYTES}`
  throw new ApiError(400, 'EVENT_PAYLOAD', why)
}

function outOfStep(name: string, why: string): ApiError {
  return new ApiError(503, 'EVENTS_OUT_OF_STEP', `Cannot measure the event "${name}": ${why}`)
}

async function readLines(path: string): Promise<Line[]> {
  let file: FileHandle
  try {
    file = await open(path, 'r')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
  try {
    const { size } = await file.stat()
    if (size > MAX_FILE_BYTES) throw new RangeError(`"${path}" has ${size} bytes`)
    const text = await file.readFile('utf8')
    const lines = text.split('\n').filter((line) => line !== '')
    if (lines.length > MAX_EVENTS) throw new RangeError(`"${path}" has ${lines.length} events`)
    return lines.map((line, at) => parseLine(line, `line ${at + 1} of "${path}"`))
  } finally {
    await file.close()
  }
}

function parseLine(text: string, where: string): Line {
  let line: Partial<Line> | null
  try {
    line = JSON.parse(text)
  } catch (cause) {
    throw new SyntaxError(`${where} is not JSON`, { cause })
  }
  const { event, payload, version } = line ?? {}
  if (typeof event !== 'string' || typeof payload !== 'string') {
    throw new SyntaxError(`${where} has no event and payload`)
  }
  if (version !== undefined && version !== 1 && version !== 2) {
    throw new SyntaxError(`${where} has version ${JSON.stringify(version)}, expected 1 or 2`)
  }
  return version === undefined ? { event, payload } : { event, payload, version }
}
