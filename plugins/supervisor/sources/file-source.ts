import { stat } from 'node:fs/promises'
import { messageOf } from '../../../src/errors.ts'
import { readTextFile } from '../../../src/files/text-file.ts'
import { pause } from '../../../src/pause.ts'
import { MAX_TARGET_BYTES, type SourceOptions, type TargetSource } from './source.ts'

export interface FileSourceOptions extends SourceOptions {
  /** Absolute. */
  readonly path: string
  /** Between two looks at its time and size. Default: 2 s. */
  readonly lookMs?: number
}

const LOOK_MS = 2000

/**
 * A target in a file, read again when it changes and when it is asked for. Looked at, because being
 * told works neither over all file systems nor in all runtimes alike.
 */
export class FileSource implements TargetSource {
  readonly #options: FileSourceOptions
  readonly #abort = new AbortController()
  #seen: string | undefined
  #good: boolean | undefined
  #problem: string | undefined
  #last: Promise<void> = Promise.resolve()
  #ended: Promise<void> | undefined

  constructor(options: FileSourceOptions) {
    this.#options = options
  }

  get good(): boolean | undefined {
    return this.#good
  }

  start(): void {
    this.#ended ??= this.#loop()
  }

  async stop(): Promise<void> {
    this.#abort.abort()
    await this.#ended
    await this.#last
  }

  refresh(): Promise<void> {
    return this.#look(true)
  }

  async #loop(): Promise<void> {
    const { signal } = this.#abort
    while (!signal.aborted) {
      await this.#look(false)
      await pause(this.#options.lookMs ?? LOOK_MS, signal)
    }
  }

  #look(always: boolean): Promise<void> {
    this.#last = this.#last.then(() => this.#read(always))
    return this.#last
  }

  async #read(always: boolean): Promise<void> {
    const { path, onTarget, onProblem } = this.#options
    let problem: string | undefined
    try {
      const { mtimeNs, size, ino } = await stat(path, { bigint: true })
      const mark = `${mtimeNs} ${size} ${ino}`
      if (!always && mark === this.#seen) return
      this.#seen = mark
      await onTarget(parsed(await readTextFile(path, MAX_TARGET_BYTES), path))
    } catch (error) {
      problem = messageOf(error)
      // What may go away by itself is tried again; a wrong file has to change first.
      if (isPassing(error)) this.#seen = undefined
    }
    this.#good = problem === undefined
    if (problem !== this.#problem) onProblem(problem)
    this.#problem = problem
  }
}

function parsed(text: string, path: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new SyntaxError(`Cannot read "${path}": it is no JSON`)
  }
}

function isPassing(error: unknown): boolean {
  return error instanceof Error && error.name === 'SupervisorError'
}
