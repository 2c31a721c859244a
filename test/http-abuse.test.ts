import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { runtime } from '../src/runtime.ts'
import { cvmdCommand, freshFolder, startDaemon } from './helpers/daemon.ts'
import { pause, RawClient, rawRequest } from './helpers/raw-http.ts'

const MIB = 1024 * 1024
const LIVEZ = 'GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'

/** Resident memory of a process now and at its highest, in MiB. */
function memory(pid: number): { readonly now: number; readonly peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const read = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024
  return { now: read('VmRSS'), peak: read('VmHWM') }
}

/** Processor time a process used so far, in milliseconds. */
function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  // Fields 14 and 15, in ticks of 10 ms.
  return (Number(fields[11]) + Number(fields[12])) * 10
}

test('B1: 200 MiB against a limit of 1 MiB are refused early, in little memory', async () => {
  const limits = 'max_body_bytes = 1048576\nplugins = []\n'
  const daemon = await startDaemon({
    config: `[[listen]]\naddress = "127.0.0.1:0"\n${limits}[[listen]]\nunix = "{folder}/t.sock"\n${limits}`,
  })
  try {
    const pid = daemon.child.pid as number
    const targets = [{ port: daemon.ports[0] as number }, { unix: join(daemon.folder, 't.sock') }]
    const block = Buffer.alloc(64 * 1024, 0x61)
    const chunk = Buffer.concat([Buffer.from('10000\r\n'), block, Buffer.from('\r\n')])
    for (const target of targets) {
      for (const path of ['/cvmd/reload', '/no-such-route']) {
        for (const chunked of [false, true]) {
          const name = `${JSON.stringify(target)} ${path} ${chunked ? 'chunked' : 'by length'}`
          const framing = chunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${200 * MIB}`
          const before = memory(pid).now
          const client = await RawClient.connect(target)
          client.send(`POST ${path} HTTP/1.1\r\nHost: localhost\r\n${framing}\r\n\r\n`)
          let waiting = true
          const answered = client.answer(5000).finally(() => {
            waiting = false
          })
          for (let sent = 0; sent < 200 * MIB && waiting; sent += block.length) {
            client.send(chunked ? chunk : block)
            await client.drained(2000)
            // The answer is read between the blocks.
            await pause(0)
          }
          const answer = await answered
          // A reset may overtake the answer, but a client is never left hanging.
          assert.ok(answer !== undefined || client.closedAt !== undefined, `${name}: hangs`)
          if (answer) assert.equal(answer.status, path === '/cvmd/reload' ? 413 : 404, name)
          const growth = memory(pid).now - before
          assert.ok(growth < 48, `${name}: grew by ${growth.toFixed(1)} MiB`)
          client.destroy()
        }
      }
    }
    assert.equal((await rawRequest(targets[0] as { port: number }, LIVEZ))?.status, 200)
  } finally {
    await daemon.stop()
  }
})

test('S2: a daemon without descriptors lives, rests and serves again', async () => {
  const folder = freshFolder()
  const file = join(folder, 'cvmd.toml')
  writeFileSync(file, '[[listen]]\naddress = "127.0.0.1:0"\nplugins = []\n')
  const [command, args] = cvmdCommand(['--config', file])
  const child = spawn('sh', ['-c', 'ulimit -n 96; exec "$@"', 'sh', command, ...args], {
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
  const clients: RawClient[] = []
  let over = false
  try {
    for (let i = 0; i < 1000 && !output.includes('Serving'); i++) await pause(20)
    const port = Number(/Listening on \S+:(\d+)/.exec(output)?.[1])
    assert.ok(port > 0, output)
    // Not all get through: once the daemon is full it leaves some waiting and refuses others.
    const connecting = Array.from({ length: 192 }, () =>
      RawClient.connect({ port }).then(
        // Those that get through after the release must not take the place of the one that asks.
        (client) => (over ? client.destroy() : clients.push(client)),
        () => 0,
      ),
    )
    await Promise.race([Promise.all(connecting), pause(2000)])
    await pause(1000)
    const before = cpuMs(child.pid as number)
    await pause(2000)
    const used = (cpuMs(child.pid as number) - before) / 2000
    assert.equal(child.exitCode, null, output)
    // Accepting in vain takes 60 % of a core and more.
    assert.ok(used < 0.3, `used ${(used * 100).toFixed(0)} % of a core`)
    over = true
    for (const client of clients) client.destroy()
    const released = performance.now()
    let status: number | undefined
    while (status !== 200 && performance.now() - released < 10_000) {
      const asked = rawRequest({ port }, LIVEZ, 1000).then(
        (answer) => answer?.status,
        () => undefined,
      )
      // A connection the kernel dropped is tried again by it after seconds, then minutes.
      status = await Promise.race([asked, pause(1500).then(() => undefined)])
      if (status !== 200) await pause(50)
    }
    // Deno takes connections before it tells of them, and stops for good when one finds no descriptor.
    if (runtime !== 'deno') assert.equal(status, 200, output)
  } finally {
    for (const client of clients) client.destroy()
    child.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
})
