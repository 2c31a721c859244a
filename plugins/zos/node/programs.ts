import { problemOf, searchPath } from '../../../src/process/host-program.ts'
import { type RunningProcess, runProcess } from '../../../src/process/run.ts'

const GRACE_MS = 1000
const TIMEOUT_MS = 10_000
const MAX_OUTPUT_BYTES = 64 * 1024

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
      env: { PATH: this.#path ?? searchPath(), LC_ALL: 'C' },
      timeoutMs,
      graceMs: GRACE_MS,
      maxOutputBytes,
      // What is more than the limit is of no use any more.
      onOutput: () => {
        if (running.stdout.start > 0) running.end()
      },
    })
    this.#running.add(running)
    const result = await running.done
    this.#running.delete(running)
    const { stdout, stderr } = running
    if (stdout.start > 0) return failed(`"${program}" wrote over ${maxOutputBytes} bytes`)
    const problem = problemOf({ program, stderr: stderr.text(), timeoutMs }, result)
    const text = result.errno === undefined ? stdout.text() : undefined
    return { stdout: text, missing: result.errno === 'ENOENT', problem }
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
}

function failed(problem: string): ProgramEnd {
  return { stdout: undefined, missing: false, problem }
}
