import { type RunningProcess, runProcess } from '../../../src/process/run.ts'

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

const GRACE_MS = 1000
const TIMEOUT_MS = 10_000
const MAX_OUTPUT_BYTES = 64 * 1024
const MAX_REASON = 200

/** How a program ended. */
export interface ProgramEnd {
  /** Whole; undefined when there was more than allowed. */
  readonly stdout: string | undefined
  /** It is not on the path. */
  readonly missing: boolean
  /** What went wrong, for messages; undefined after exit status 0. */
  readonly problem: string | undefined
}

export interface ProgramLimits {
  readonly timeoutMs?: number
  readonly maxOutputBytes?: number
}

/**
 * Programs of the host, looked up through the path at every call, run without a shell, in the C
 * locale because their output is parsed, with a deadline and bounded output.
 */
export class Programs {
  readonly #path: string | undefined
  readonly #running = new Set<RunningProcess>()
  #stopped = false

  /** @param path Folders as in `PATH`; default: those of the daemon. */
  constructor(path?: string) {
    this.#path = path
  }

  /** Never rejects. */
  async run(argv: readonly string[], limits: ProgramLimits = {}): Promise<ProgramEnd> {
    const program = argv[0] ?? ''
    if (this.#stopped) return failed(`"${program}" is not started while the daemon stops`)
    const { timeoutMs = TIMEOUT_MS, maxOutputBytes = MAX_OUTPUT_BYTES } = limits
    const running = runProcess({
      argv,
      env: { PATH: this.#path ?? this.#ownPath(), LC_ALL: 'C' },
      timeoutMs,
      graceMs: GRACE_MS,
      maxOutputBytes,
      // What is more than the limit is of no use any more.
      onOutput: () => {
        if (running.stdout.start > 0) running.end()
      },
    })
    this.#running.add(running)
    const { errno, exitCode, signal, timedOut } = await running.done
    this.#running.delete(running)
    const { stdout, stderr } = running
    if (stdout.start > 0) return failed(`"${program}" wrote over ${maxOutputBytes} bytes`)
    const text = stdout.text()
    if (errno === 'ENOENT') return { ...failed(`"${program}" is not installed`), missing: true }
    if (errno !== undefined) return failed(`"${program}" cannot be started (${errno})`)
    if (timedOut) return failed(`"${program}" took longer than ${timeoutMs / 1000} s`, text)
    if (exitCode !== 0) {
      const end = signal === undefined ? `exit status ${exitCode}` : `signal ${signal}`
      const why = stderr.text().replace(/\s+/g, ' ').trim().slice(0, MAX_REASON)
      return failed(`"${program}" ended with ${end}${why === '' ? '' : `: ${why}`}`, text)
    }
    return { stdout: text, missing: false, problem: undefined }
  }

  /** Ends what runs; nothing is started from then on. */
  async stop(): Promise<void> {
    this.#stopped = true
    const all = [...this.#running]
    for (const running of all) running.end()
    await Promise.all(all.map(({ done }) => done))
  }

  /** Lets programs run again after {@link stop}. */
  start(): void {
    this.#stopped = false
  }

  #ownPath(): string {
    try {
      return process.env.PATH || DEFAULT_PATH
    } catch {
      // Deno refuses variables one by one.
      return DEFAULT_PATH
    }
  }
}

function failed(problem: string, stdout?: string): ProgramEnd {
  return { stdout, missing: false, problem }
}
