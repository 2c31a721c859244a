import { request as httpRequest, type IncomingMessage } from 'node:http'
import { errnoOf } from '../../../../src/errors.ts'
import type { VmConfig } from './vm-config.ts'

/** Longest answer that is read, in bytes; `vm.info` of a machine with all its devices is below it. */
const MOST = 1024 * 1024
const MAX_REASON = 300
/** What only asks, or only pauses, answers at once. */
const QUICK_MS = 10_000
/** Memory is allocated, and a machine with a lot of it takes its time. */
const SLOW_MS = 120_000

export type VmState = 'Created' | 'Running' | 'Shutdown' | 'Paused' | 'BreakPoint'

/**
 * The REST API of one cloud-hypervisor process (its `vmm/src/api/openapi/cloud-hypervisor.yaml`,
 * 00f6822), over its Unix socket. Every call has a deadline and throws {@link MachineApiError}, or
 * the reason of the signal.
 */
export interface MachineApi {
  /** Version of the program, without a leading `v`. */
  ping(signal?: AbortSignal): Promise<string>
  /** Undefined while no machine is created. */
  state(signal?: AbortSignal): Promise<VmState | undefined>
  create(config: VmConfig, signal?: AbortSignal): Promise<void>
  boot(signal?: AbortSignal): Promise<void>
  pause(signal?: AbortSignal): Promise<void>
  resume(signal?: AbortSignal): Promise<void>
  powerButton(signal?: AbortSignal): Promise<void>
  shutdown(signal?: AbortSignal): Promise<void>
  delete(signal?: AbortSignal): Promise<void>
  /** Ends the process. */
  shutdownVmm(signal?: AbortSignal): Promise<void>
}

/**
 * - `GONE`: nobody listens on the socket.
 * - `SILENT`: somebody does, and does not answer in time.
 * - `REFUSED`: the answer is an error.
 * - `MALFORMED`: the answer is not of this API.
 */
export type MachineApiCode = 'GONE' | 'SILENT' | 'REFUSED' | 'MALFORMED'

export class MachineApiError extends Error {
  override readonly name = 'MachineApiError'
  readonly code: MachineApiCode
  /** Of the answer, with `REFUSED`. */
  readonly status: number | undefined

  constructor(code: MachineApiCode, message: string, status?: number) {
    super(message)
    this.code = code
    this.status = status
  }
}

export function isMachineApiError(error: unknown, ...codes: MachineApiCode[]): boolean {
  return error instanceof MachineApiError && (codes.length === 0 || codes.includes(error.code))
}

export interface MachineApiOptions {
  readonly socketPath: string
  /** Instead of 10 s, for calls that are quick. */
  readonly quickMs?: number | undefined
}

export function machineApi({ socketPath, quickMs = QUICK_MS }: MachineApiOptions): MachineApi {
  const ask = (method: 'GET' | 'PUT', name: string, signal?: AbortSignal, more: More = {}) =>
    exchange({ socketPath, method, name, signal, ms: more.ms ?? quickMs, body: more.body })

  const put = (name: string, ms?: number) => async (signal?: AbortSignal) => {
    const { status, text } = await ask('PUT', name, signal, { ms })
    if (status !== 200 && status !== 204) throw refused(name, status, text)
  }

  return {
    async ping(signal) {
      const { status, text } = await ask('GET', 'vmm.ping', signal)
      if (status !== 200) throw refused('vmm.ping', status, text)
      const { version } = parse('vmm.ping', text)
      if (typeof version !== 'string') throw malformed('vmm.ping', 'it has no version')
      return version.replace(/^v/, '').slice(0, 60)
    },
    async state(signal) {
      const { status, text } = await ask('GET', 'vm.info', signal)
      // 404 since v48; before, an internal error with the name of the Rust error.
      if (status === 404 || (status === 500 && /not ?created/i.test(text))) return undefined
      if (status !== 200) throw refused('vm.info', status, text)
      const { state } = parse('vm.info', text)
      if (isState(state)) return state
      throw malformed('vm.info', `its state is "${String(state).slice(0, 40)}"`)
    },
    async create(config, signal) {
      const body = JSON.stringify(config)
      const { status, text } = await ask('PUT', 'vm.create', signal, { body, ms: SLOW_MS })
      if (status !== 200 && status !== 204) throw refused('vm.create', status, text)
    },
    boot: put('vm.boot', SLOW_MS),
    pause: put('vm.pause'),
    resume: put('vm.resume'),
    powerButton: put('vm.power-button'),
    shutdown: put('vm.shutdown'),
    delete: put('vm.delete'),
    shutdownVmm: put('vmm.shutdown'),
  }
}

interface More {
  readonly body?: string | undefined
  readonly ms?: number | undefined
}

const STATES: ReadonlySet<unknown> = new Set<VmState>([
  'Created',
  'Running',
  'Shutdown',
  'Paused',
  'BreakPoint',
])

function isState(value: unknown): value is VmState {
  return STATES.has(value)
}

function parse(name: string, text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  } catch {}
  throw malformed(name, 'it is no JSON object')
}

function malformed(name: string, why: string): MachineApiError {
  return new MachineApiError('MALFORMED', `the hypervisor's answer to ${name} is odd: ${why}`)
}

function refused(name: string, status: number, text: string): MachineApiError {
  const reason = text.replace(/\s+/g, ' ').trim().slice(0, MAX_REASON)
  const tail = reason === '' ? '' : `: ${reason}`
  return new MachineApiError('REFUSED', `the hypervisor refuses ${name} (${status})${tail}`, status)
}

interface Call {
  readonly socketPath: string
  readonly method: 'GET' | 'PUT'
  readonly name: string
  readonly body: string | undefined
  readonly ms: number
  readonly signal: AbortSignal | undefined
}

interface Reply {
  readonly status: number
  readonly text: string
}

function exchange({ socketPath, method, name, body, ms, signal }: Call): Promise<Reply> {
  if (signal?.aborted) return Promise.reject(signal.reason)
  return new Promise((resolve, reject) => {
    const headers: Record<string, string | number> = {
      host: 'localhost',
      accept: 'application/json',
    }
    if (body !== undefined) headers['content-type'] = 'application/json'
    if (method === 'PUT') headers['content-length'] = Buffer.byteLength(body ?? '')
    const path = `/api/v1/${name}`
    const request = httpRequest({ socketPath, method, path, headers, agent: false })
    const end = (settle: () => void) => {
      clearTimeout(deadline)
      signal?.removeEventListener('abort', aborted)
      settle()
      request.destroy()
    }
    const fail = (error: unknown) => end(() => reject(error))
    const aborted = () => fail(signal?.reason)
    const deadline = setTimeout(() => {
      fail(new MachineApiError('SILENT', `the hypervisor does not answer ${name} within ${ms} ms`))
    }, ms)
    signal?.addEventListener('abort', aborted)
    // Stays for good: destroying a request may report an error of its own.
    request.on('error', (error) => fail(lost(name, errnoOf(error))))
    request.on('close', () => fail(lost(name, undefined)))
    request.on('response', (response) => {
      collect(response).then(
        (text) => end(() => resolve({ status: response.statusCode ?? 0, text })),
        (error) => fail(error instanceof MachineApiError ? error : lost(name, errnoOf(error))),
      )
    })
    request.end(body)
  })
}

/** Codes of a socket where nobody is; anything else broke in the middle. */
const NOBODY: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ECONNREFUSED', 'ENOTSOCK'])

function lost(name: string, errno: string | undefined): MachineApiError {
  if (NOBODY.has(errno)) {
    return new MachineApiError('GONE', `nobody listens on the hypervisor's socket (${errno})`)
  }
  const why = errno === undefined ? '' : ` (${errno})`
  return new MachineApiError('GONE', `the hypervisor closed the connection during ${name}${why}`)
}

function collect(response: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const parts: Uint8Array[] = []
    let total = 0
    response.on('data', (part: Uint8Array) => {
      total += part.length
      if (total <= MOST) parts.push(part)
      else
        reject(new MachineApiError('MALFORMED', `the hypervisor's answer is above ${MOST} bytes`))
    })
    response.on('end', () => resolve(Buffer.concat(parts).toString('utf8')))
    response.on('error', reject)
    // An answer that was cut short closes without ending.
    response.on('close', () => reject(new Error('cut short')))
  })
}
