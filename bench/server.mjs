// One server in a process of its own: start, figures from /proc, stop.
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'

/** proc_pid_stat(5) counts processor time in these: USER_HZ, the same on every Linux. */
const TICK_US = 10_000

/** Whether a command of this name can be run. */
export function has(command) {
  return spawnSync('sh', ['-c', `command -v ${command}`]).status === 0
}

const pins = availableParallelism() > 1 && has('taskset')

/** The command bound to a processor: 0 for servers, 1 for what drives them. */
export function pinned(cpu, command, args) {
  return pins ? ['taskset', ['-c', String(cpu), command, ...args]] : [command, args]
}

/**
 * Starts a variant and waits until it answers.
 *
 * @param {{ app: string, command: string, args: string[] }} variant
 * @param {{ pin?: boolean, args?: string[], plugins?: string }} options `args` for the bare
 *   server, `plugins` for cvmd: TOML in which `{folder}` stands for the private folder.
 */
export async function start(variant, { pin = true, args = [], plugins = '' } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-bench-'))
  const port = await freePort()
  const own = variant.app === 'cvmd' ? ['--config', config(folder, port, plugins)] : [port, ...args]
  const all = [...variant.args, ...own.map(String)]
  const [command, commandArgs] = pin ? pinned(0, variant.command, all) : [variant.command, all]
  const started = performance.now()
  const child = spawn(command, commandArgs, {
    cwd: folder,
    env: {
      ...process.env,
      CVMD_STATE_DIR: join(folder, 'state'),
      CVMD_RUN_DIR: join(folder, 'run'),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      output += data
    })
  }
  const ended = new Promise((done) => {
    child.once('close', done)
    child.once('error', (error) => {
      output += error.message
      done()
    })
  })
  const stop = async () => {
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), 5000)
    await ended
    clearTimeout(timer)
    rmSync(folder, { recursive: true, force: true })
  }
  while (!(await answers(port))) {
    const gone = child.exitCode !== null || child.pid === undefined
    if (gone || performance.now() - started > 20_000) {
      await stop()
      throw new Error(`${variant.runtime} ${variant.app} did not come up:\n${output}`)
    }
    await wait(1)
  }
  return {
    folder,
    port,
    /** From spawn to the first answer, in milliseconds. */
    startMs: performance.now() - started,
    url: (path) => `http://127.0.0.1:${port}${path}`,
    /** Processor time of all its threads so far, in microseconds. */
    cpuUs: () => cpuUs(child.pid),
    /** Resident memory, in MiB. */
    rssMib: () => Number(/VmRSS:\s+(\d+)/.exec(proc(child.pid, 'status'))[1]) / 1024,
    stop,
  }
}

function config(folder, port, plugins) {
  const file = join(folder, 'cvmd.toml')
  writeFileSync(
    file,
    `log.level = "error"
[[listen]]
address = "127.0.0.1:${port}"
[[listen]]
unix = "${folder}/cvmd.sock"
${plugins.replaceAll('{folder}', folder)}
`,
  )
  return file
}

function cpuUs(pid) {
  // The second field is the command in brackets and may hold anything.
  const fields = proc(pid, 'stat')
    .replace(/^.*\) /s, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) * TICK_US
}

function proc(pid, name) {
  return readFileSync(`/proc/${pid}/${name}`, 'utf8')
}

/** A port nobody listens on; asked for here because a quiet daemon does not print its own. */
function freePort() {
  return new Promise((done, failed) => {
    const server = createServer().once('error', failed)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => done(port))
    })
  })
}

/** Whether `GET /livez` gives 200, asked over bare TCP: an HTTP client takes longer to load. */
function answers(port) {
  return new Promise((done) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.write(`GET /livez HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: close\r\n\r\n`)
    })
    socket.once('data', (data) => {
      done(data.toString('latin1').startsWith('HTTP/1.1 200'))
      socket.destroy()
    })
    socket.once('error', () => done(false))
    socket.once('close', () => done(false))
  })
}
