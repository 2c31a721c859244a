import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { runtime } from '../../src/runtime.ts'

/** A daemon in a process of its own, on the runtime the test runs on. */
export interface DaemonProcess {
  readonly child: ChildProcess
  /** A private folder with `state`, `run` and whatever the test puts there; the working directory. */
  readonly folder: string
  /** Path of the operator's Unix socket. */
  readonly socket: string
  /** Ports of the TCP listeners, in the order of the log. */
  readonly ports: readonly number[]
  /** Everything it printed so far. */
  output(): string
  /** `fetch` on the first TCP listener. */
  get(path: string, init?: RequestInit): Promise<Response>
  /** Sends a signal. */
  signal(name: NodeJS.Signals): void
  /** Waits for its end and gives its exit status; null after a signal. */
  exited(): Promise<number | null>
  /** SIGTERM, wait, remove the folder. */
  stop(): Promise<number | null>
}

/** What a test may say about the daemon it starts. */
export interface DaemonOptions {
  /** Written to `cvmd.toml` in the folder; `{folder}` is replaced. */
  readonly config?: string
  readonly args?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Text in the output that means it is up; default: the last listener's line. */
  readonly until?: string
  /** Start in this folder instead of a fresh one. */
  readonly folder?: string
  /** Program and first arguments to run instead of {@link cvmdCommand}. */
  readonly command?: readonly string[]
}

/** The command that runs cvmd on this runtime: Node runs the build, the others the sources. */
export function cvmdCommand(args: readonly string[]): readonly [string, readonly string[]] {
  const binary = process.env.CVMD_TEST_BINARY
  if (binary !== undefined) return [resolve(binary), args]
  const script = resolve(runtime === 'node' ? 'dist/cvmd.js' : 'src/main.ts')
  if (runtime === 'bun') return [process.execPath, ['--no-install', script, ...args]]
  if (runtime === 'deno') {
    return [process.execPath, ['run', '-A', '--no-check', '--quiet', script, ...args]]
  }
  return [process.execPath, [script, ...args]]
}

/** A fresh private folder. */
export function freshFolder(): string {
  return mkdtempSync(join(tmpdir(), 'cvmd-test-'))
}

/** Starts a daemon and waits until it listens; rejects with its output when it ends instead. */
export async function startDaemon(options: DaemonOptions = {}): Promise<DaemonProcess> {
  const folder = options.folder ?? freshFolder()
  mkdirSync(folder, { recursive: true })
  const args = [...(options.args ?? [])]
  if (options.config !== undefined) {
    writeFileSync(join(folder, 'cvmd.toml'), options.config.replaceAll('{folder}', folder))
    args.unshift('--config', join(folder, 'cvmd.toml'))
  }
  const [command, commandArgs] = commandOf(options, args)
  const child = spawn(command, commandArgs, {
    cwd: folder,
    env: {
      ...process.env,
      CVMD_STATE_DIR: join(folder, 'state'),
      CVMD_RUN_DIR: join(folder, 'run'),
      ...options.env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  // Not child.kill: Deno's works once, and makes the exit status null.
  const signal = (name: NodeJS.Signals) => void process.kill(child.pid as number, name)
  let output = ''
  child.stdout?.on('data', (data) => {
    output += data
  })
  child.stderr?.on('data', (data) => {
    output += data
  })
  const ended = new Promise<number | null>((done) => child.once('close', (code) => done(code)))
  const until = options.until ?? 'Serving'
  const deadline = Date.now() + 20_000
  let gone = false
  ended.then(() => {
    gone = true
  })
  while (!output.includes(until)) {
    if (gone || Date.now() > deadline) {
      if (!gone) signal('SIGKILL')
      throw new Error(`the daemon did not come up (status ${child.exitCode}):\n${output}`)
    }
    await new Promise((tick) => setTimeout(tick, 10))
  }
  const ports = [...output.matchAll(/Listening on (?!unix)\S+?:(\d+)["\s]/g)].map(([, port]) =>
    Number(port),
  )
  return {
    child,
    folder,
    socket: join(folder, 'run', 'cvmd.sock'),
    ports,
    output: () => output,
    get: (path, init) => fetch(`http://127.0.0.1:${ports[0]}${path}`, init),
    signal,
    exited: () => ended,
    stop: async () => {
      // Not child.kill: after it Deno reports the signal even when the child exits by itself.
      if (!gone && child.pid !== undefined) process.kill(child.pid, 'SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), 15_000)
      const code = await ended
      clearTimeout(timer)
      if (options.folder === undefined) rmSync(folder, { recursive: true, force: true })
      return code
    },
  }
}

function commandOf(
  { command }: DaemonOptions,
  args: readonly string[],
): readonly [string, readonly string[]] {
  if (command === undefined) return cvmdCommand(args)
  const [program = '', ...first] = command
  return [program, [...first, ...args]]
}

/** Runs a cvmd command to its end. */
export function runCvmd(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  cwd = process.cwd(),
): Promise<{ readonly status: number | null; readonly stdout: string; readonly stderr: string }> {
  const [command, commandArgs] = cvmdCommand(args)
  return new Promise((done, failed) => {
    const child = spawn(command, commandArgs, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (data) => {
      stdout += data
    })
    child.stderr.on('data', (data) => {
      stderr += data
    })
    child.once('error', failed)
    child.once('close', (status) => done({ status, stdout, stderr }))
  })
}

/** An answer read whole, from a Unix socket. */
export interface UnixAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

/** One request over a Unix socket. */
export function unixRequest(
  socketPath: string,
  path: string,
  init: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<UnixAnswer> {
  return new Promise((done, failed) => {
    const request = httpRequest(
      { socketPath, path, method: init.method ?? 'GET', headers: { ...init.headers } },
      (incoming) => {
        let body = ''
        incoming.setEncoding('utf8')
        incoming.on('data', (data) => {
          body += data
        })
        incoming.on('end', () =>
          done({ status: incoming.statusCode ?? 0, headers: incoming.headers, body }),
        )
      },
    )
    request.once('error', failed)
    request.end(init.body)
  })
}
