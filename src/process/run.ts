import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { errnoOf } from '../errors.ts'
import { groupExists, signalGroup } from './group.ts'
import { Tail } from './tail.ts'

/** What to run, and its limits. */
export interface ProcessSpec {
  /** Program and arguments; no shell is involved. */
  readonly argv: readonly string[]
  /** The whole environment of the child. */
  readonly env: Readonly<Record<string, string>>
  /** Working directory; the daemon's own when left out. */
  readonly cwd?: string | undefined
  /** Numeric ids to switch to (needs root); all supplementary groups are dropped. */
  readonly ids?: { readonly uid: number; readonly gid: number } | undefined
  /** Milliseconds until the group is ended; 0 sets no deadline. */
  readonly timeoutMs: number
  /** Milliseconds between TERM and KILL. */
  readonly graceMs: number
  /** Bytes kept of each of stdout and stderr: the last ones. */
  readonly maxOutputBytes: number
  /** Called after output arrived; must not throw. */
  readonly onOutput?: () => void
}

/** How a process ended. */
export interface ProcessResult {
  /** Exit status, 0 to 255; undefined when a signal ended it or it never ran. */
  readonly exitCode: number | undefined
  /** Name of the signal that ended it: `SIGKILL`. */
  readonly signal: string | undefined
  /** Errno name when it could not be started: `ENOENT`. */
  readonly errno: string | undefined
  /** The deadline passed before the process, or a holder of its output, was done. */
  readonly timedOut: boolean
  /** It outlived KILL: another user's now (sudo), or stuck in the kernel. */
  readonly lost: boolean
}

/** A process that was started. */
export interface RunningProcess {
  readonly stdout: Tail
  readonly stderr: Tail
  /** Resolves once it exited and its output was closed; never rejects. */
  readonly done: Promise<ProcessResult>
  /** Ends the whole group: TERM, then KILL after the grace time. `done` follows within bounds. */
  end(): void
}

/** How long to wait for a killed leader to be reaped. */
const REAP_MS = 2000

/** How long output already in the pipe may take to be read once the group is gone. */
const DRAIN_MS = 200

const POLL_MS = 20

/**
 * Runs a program as the leader of a process group of its own, with stdin from `/dev/null`.
 *
 * The run is over when the leader exited and everybody who inherited its output closed it, as with
 * Go's `exec.Cmd`. At the deadline the group gets TERM, then KILL, and the pipes are closed from
 * this end, so that a process that left the group cannot keep the run open. Output is always read,
 * so nobody blocks on a full pipe.
 *
 * Limits of the runtimes (measured): on Node and Bun the output is a socket pair, so the child
 * cannot reopen `/dev/stdout`, and a death by a real-time signal is reported as exit status 0. Deno
 * reports no end at all after such a signal but an unhandled rejection, `Invalid signal: 34`.
 */
export function runProcess(spec: ProcessSpec): RunningProcess {
  return new Running(spec)
}

class Running implements RunningProcess {
  readonly stdout: Tail
  readonly stderr: Tail
  readonly done: Promise<ProcessResult>
  readonly #graceMs: number
  #child: ChildProcess | undefined
  #settle: (result: ProcessResult) => void = () => undefined
  #deadline: ReturnType<typeof setTimeout> | undefined
  #exit: { readonly code: number | undefined; readonly signal: string | undefined } | undefined
  #closed = false
  #over = false
  #ending = false
  #timedOut = false

  constructor(spec: ProcessSpec) {
    this.stdout = new Tail(spec.maxOutputBytes)
    this.stderr = new Tail(spec.maxOutputBytes)
    this.#graceMs = spec.graceMs
    this.done = new Promise((resolve) => {
      this.#settle = resolve
    })
    try {
      this.#child = this.#spawn(spec)
    } catch (thrown) {
      this.#finish(errnoOf(thrown) ?? 'EINVAL')
      return
    }
    if (spec.timeoutMs > 0) {
      this.#deadline = setTimeout(() => {
        this.#timedOut = true
        this.end()
      }, spec.timeoutMs)
    }
  }

  end(): void {
    // Once it is over the number may belong to somebody else.
    if (this.#over || this.#ending || this.#child?.pid === undefined) return
    this.#ending = true
    clearTimeout(this.#deadline)
    this.#endGroup(this.#child, this.#child.pid)
  }

  #spawn(spec: ProcessSpec): ChildProcess {
    const [program = '', ...args] = spec.argv
    const options: SpawnOptions = {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
      env: spec.env,
      ...(spec.cwd === undefined ? {} : { cwd: spec.cwd }),
      ...spec.ids,
    }
    const child = spawn(program, args, options)
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.on('data', (chunk: Buffer) => {
        this[name].push(chunk)
        spec.onOutput?.()
      })
      child[name]?.on('error', () => undefined)
    }
    child.on('error', (error) => {
      if (child.pid === undefined) this.#finish(errnoOf(error) ?? 'EINVAL')
    })
    child.on('exit', (code, signal) => {
      this.#exit = { code: code ?? undefined, signal: signal ?? undefined }
    })
    child.on('close', () => {
      this.#closed = true
      if (!this.#ending) this.#finish()
    })
    return child
  }

  async #endGroup(child: ChildProcess, pid: number): Promise<void> {
    const gone = () => this.#exit !== undefined && !groupExists(pid)
    signalGroup(child, 'SIGTERM')
    await until(gone, this.#graceMs)
    if (!gone()) signalGroup(child, 'SIGKILL')
    await until(() => this.#exit !== undefined, REAP_MS)
    await until(() => this.#closed, DRAIN_MS)
    this.#finish()
    child.stdout?.destroy()
    child.stderr?.destroy()
  }

  #finish(errno?: string): void {
    // A failed start may be followed by `close`.
    if (this.#over) return
    this.#over = true
    clearTimeout(this.#deadline)
    this.stdout.trim()
    this.stderr.trim()
    this.#settle({
      exitCode: errno === undefined ? this.#exit?.code : undefined,
      signal: this.#exit?.signal,
      errno,
      timedOut: this.#timedOut,
      lost: errno === undefined && this.#exit === undefined,
    })
  }
}

/** Waits until `test` holds, at most `ms` milliseconds of the monotonic clock. */
async function until(test: () => boolean, ms: number): Promise<void> {
  const latest = performance.now() + ms
  while (!test() && performance.now() < latest) await sleep(POLL_MS)
}
