import { accessSync, constants, statSync } from 'node:fs'
import { join } from 'node:path'
import { goErrno, goSignal } from '../../src/compat/go-errors.ts'
import { errnoOf, messageOf } from '../../src/errors.ts'
import type { ProcessResult, ProcessSpec } from '../../src/process/run.ts'
import { findUser, type User } from '../../src/process/user.ts'
import type { ActionsConfig, CommandConfig } from './config.ts'
import { fillIn, paramEnv } from './params.ts'

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Variables of the daemon's own environment that a command sees. */
export const PASSED_ON = ['PATH', 'HOME', 'LANG', 'TZ'] as const

/** Where `shell = "auto"` looks, in this order; the first is system-api's default. */
export const SHELLS = ['/bin/ash', '/bin/sh'] as const

/** A configured command with every default filled in; opens nothing until {@link prepare}. */
export class Command {
  readonly name: string
  readonly config: CommandConfig
  /** Runs at a time. */
  readonly concurrency: number
  readonly #timeoutMs: number
  readonly #graceMs: number
  readonly #maxOutputBytes: number
  #shell: string
  #user: User | undefined
  #prefix: readonly string[] = []

  constructor(name: string, config: CommandConfig, all: ActionsConfig) {
    const free = config.system_api
    this.name = name
    this.config = config
    this.concurrency = (config.concurrency ?? (free ? 0 : 1)) || Number.POSITIVE_INFINITY
    this.#timeoutMs = (config.timeout_s ?? (free ? 0 : 60)) * 1000
    this.#graceMs = all.grace_s * 1000
    this.#maxOutputBytes = config.max_output_bytes ?? (free ? 1024 * 1024 : 65_536)
    this.#shell = all.shell
  }

  /** The command as system-api shows it in its events: without values. */
  get text(): string {
    return this.config.shell ?? this.config.argv?.join(' ') ?? ''
  }

  /**
   * Finds the shell and the user.
   *
   * @param etc Folder of the account files.
   * @throws {Error} When the user does not exist or cannot be switched to from here.
   */
  prepare(etc = '/etc'): void {
    if (this.#shell === 'auto') this.#shell = SHELLS.find(isExecutable) ?? SHELLS[1]
    if (this.config.user === undefined) return
    try {
      this.#user = findUser(this.config.user, etc)
      this.#prefix = switchTo(this.#user)
    } catch (cause) {
      throw new Error(
        `Cannot run action "${this.name}" as user "${this.config.user}": ${messageOf(cause)}`,
        { cause },
      )
    }
  }

  /** What to run for these parameter values. */
  spec(values: ReadonlyMap<string, string>): ProcessSpec {
    const { shell, argv = [] } = this.config
    const direct = this.#user && this.#user.groups.length === 0 && process.getuid?.() === 0
    return {
      argv: [
        ...this.#prefix,
        ...(shell === undefined ? fillIn(argv, values) : [this.#shell, '-c', shell]),
      ],
      env: this.#env(values),
      cwd: this.config.cwd,
      ids: direct ? { uid: this.#user?.uid ?? 0, gid: this.#user?.gid ?? 0 } : undefined,
      timeoutMs: this.#timeoutMs,
      graceMs: this.#graceMs,
      maxOutputBytes: this.#maxOutputBytes,
    }
  }

  /** Why a run failed, in the words of Go's `os/exec`; undefined when it did not. */
  failure(result: ProcessResult): string | undefined {
    if (result.errno !== undefined) return this.#notStarted(result.errno)
    const end = result.lost
      ? 'it is still running and could not be killed'
      : result.signal === undefined
        ? `exit status ${result.exitCode}`
        : `signal: ${goSignal(result.signal)}`
    if (result.timedOut) return `deadline of ${this.#timeoutMs / 1000} s passed: ${end}`
    return result.exitCode === 0 ? undefined : end
  }

  #notStarted(errno: string): string {
    const program = this.config.argv?.[0] ?? this.#shell
    if (program === '') return 'exec: no command'
    const { cwd } = this.config
    const wrongCwd = cwd === undefined ? undefined : statErrno(cwd)
    if (wrongCwd !== undefined) return `chdir ${cwd}: ${goErrno(wrongCwd)}`
    if (errno === 'ENOENT' && !program.includes('/')) {
      return `exec: "${program}": executable file not found in $PATH`
    }
    return `fork/exec ${program}: ${goErrno(errno)}`
  }

  #env(values: ReadonlyMap<string, string>): Record<string, string> {
    const { system_api, env } = this.config
    const names = system_api ? Object.keys(process.env) : PASSED_ON
    const own = names.map((name) => [name, process.env[name]])
    const user = this.#user
    return {
      ...(system_api ? {} : { PATH: DEFAULT_PATH }),
      ...Object.fromEntries(own.filter(([, value]) => value !== undefined)),
      ...(user && { HOME: user.home, USER: user.name, LOGNAME: user.name }),
      ...env,
      ...paramEnv(values),
    }
  }
}

/**
 * What to put before a command so that it runs as a user with supplementary groups, which
 * child_process has no option for; empty where its `uid` and `gid` do.
 */
function switchTo(user: User): readonly string[] {
  const uid = process.getuid?.()
  if (uid === user.uid) return []
  if (uid !== 0) throw new Error(`cvmd runs as uid ${uid}, switching needs root`)
  if (user.groups.length === 0) return []
  const path = (process.env.PATH ?? DEFAULT_PATH).split(':')
  const setpriv = path.map((folder) => join(folder, 'setpriv')).find(isExecutable)
  if (setpriv === undefined) {
    throw new Error('the user has supplementary groups, which needs setpriv (util-linux) in PATH')
  }
  const groups = user.groups.join(',')
  return [setpriv, `--reuid=${user.uid}`, `--regid=${user.gid}`, `--groups=${groups}`, '--']
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function statErrno(path: string): string | undefined {
  try {
    return statSync(path).isDirectory() ? undefined : 'ENOTDIR'
  } catch (thrown) {
    return errnoOf(thrown) ?? 'EIO'
  }
}
