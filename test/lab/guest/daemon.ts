import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runtime } from '../../../src/runtime.ts'
import { type UnixAnswer, unixRequest } from '../../helpers/daemon.ts'
import { TRUST } from './stage.ts'

/** Runs a JavaScript file on the runtime the tests run on. */
export function runner(file: string): readonly [string, ...string[]] {
  const options = {
    node: [],
    bun: ['--no-install'],
    deno: ['run', '-A', '--no-check', '--quiet'],
  }[runtime]
  return [process.execPath, ...options, `/cvmd/dist/${file}`]
}

/** A running daemon, as it is installed, and its sockets. */
export interface LabDaemon {
  /** A request on the socket of applications. */
  guest(path: string): Promise<UnixAnswer>
  /** A request on the socket of operators. */
  operator(path: string): Promise<UnixAnswer>
  /** Asks it to stop. */
  terminate(): void
  /** Its exit status, once it is gone; null after a signal. */
  readonly exited: Promise<number | null>
}

/** A test that failed may have left one behind, which would hold the ports of the next. */
let running: ChildProcess | undefined

/** Making keys takes this machine half a minute, and kms is no matter of the kernel's. */
const WITHOUT_KMS = '[plugins.kms]\nenabled = false\n'

/**
 * Starts the daemon and waits until it serves; for how long is the test's business.
 *
 * @param config TOML, beside the defaults.
 */
export async function startCvmd(config = ''): Promise<LabDaemon> {
  if (running && running.exitCode === null && running.signalCode === null) {
    running.kill('SIGKILL')
    await once(running, 'close')
  }
  const folder = mkdtempSync('/tmp/cvmd-')
  writeFileSync(join(folder, 'cvmd.toml'), config + WITHOUT_KMS)
  const [program, ...args] = runner('cvmd.js')
  const child = spawn(program, [...args, '--config', join(folder, 'cvmd.toml')], {
    cwd: folder,
    env: { ...process.env, CVMD_STATE_DIR: join(folder, 'state'), CVMD_RUN_DIR: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running = child
  const exited = once(child, 'close').then(([status]) => status as number | null)
  await serving(child, exited)
  return {
    guest: (path) => unixRequest(join(folder, 'dstack.sock'), path),
    operator: (path) => unixRequest(join(folder, 'cvmd.sock'), path),
    // Not child.kill: after it Deno reports the signal even when the child exits by itself.
    terminate: () => void process.kill(child.pid as number, 'SIGTERM'),
    exited,
  }
}

/** Stops a daemon, and expects it to end well. */
export async function stopCvmd({ terminate, exited }: LabDaemon): Promise<void> {
  terminate()
  assert.equal(await exited, 0)
}

async function serving(child: ChildProcess, exited: Promise<unknown>): Promise<void> {
  let output = ''
  const up = new Promise<void>((done) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (data) => {
        output += data
        if (output.includes('Serving')) done()
      })
    }
  })
  const ended = exited.then(() => {
    throw new Error(`the daemon did not come up:\n${output}`)
  })
  await Promise.race([up, ended])
  ended.catch(() => undefined)
}

/** The answer as JSON, expecting a status. */
export async function json<T>(status: number, answer: Promise<UnixAnswer>): Promise<T> {
  const { status: found, body } = await answer
  assert.equal(found, status, body)
  return JSON.parse(body) as T
}

/** What the back end says evidence is to be verified with. */
export function trust(name: 'tdx-root.der' | 'tdx-collateral.json' | 'nitro-root.der'): Uint8Array {
  return readFileSync(join(TRUST, name))
}
