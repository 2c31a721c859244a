import assert from 'node:assert/strict'
import { appendFileSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { type DaemonProcess, startDaemon, unixRequest } from './helpers/daemon.ts'

const CONFIG = `[[listen]]
address = "127.0.0.1:0"
[[listen]]
unix = "{folder}/run/cvmd.sock"
[plugins.eventlog]
max_entries = 500
fifo = "{folder}/pipe"
persist = true
journal_max_bytes = 65536
[plugins.actions.commands.hello]
argv = ["echo", "hello"]
concurrency = 0
[plugins.uploads.files.file]
path = "{folder}/uploaded"
keep = 2
`

interface Figures {
  readonly descriptors: number
  readonly residentKib: number
  readonly children: number
}

function figuresOf(daemon: DaemonProcess): Figures {
  const proc = `/proc/${daemon.child.pid}`
  const status = readFileSync(`${proc}/status`, 'utf8')
  return {
    descriptors: readdirSync(`${proc}/fd`).length,
    residentKib: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]),
    children: readFileSync(`${proc}/task/${daemon.child.pid}/children`, 'utf8').split(' ').length,
  }
}

/** Everything an operator does, once, over TCP and the socket. */
async function round(daemon: DaemonProcess, i: number): Promise<void> {
  appendFileSync(join(daemon.folder, 'pipe'), `line ${i} ${'x'.repeat(i % 300)}\n`)
  const stop = new AbortController()
  const stream = daemon.get('/cvmd/events/stream', { signal: stop.signal })
  const calls = [
    daemon.get(`/api/v1/new_event?message=event+${i}`),
    daemon.get('/logs'),
    daemon.get('/api/v1/events'),
    daemon.get('/cvmd/events?limit=10'),
    daemon.get('/cvmd/metrics'),
    daemon.get('/nowhere'),
    daemon.get('/cvmd/actions/hello/runs?wait=1', { method: 'POST' }),
    daemon.get('/cvmd/uploads/file', { method: 'PUT', body: `content ${i}`.repeat(100) }),
  ]
  for (const response of await Promise.all(calls)) await response.arrayBuffer()
  await unixRequest(daemon.socket, '/livez')
  await stream
  stop.abort()
}

test('under a bounded soak memory, descriptors and children stay flat', async () => {
  const daemon = await startDaemon({ config: CONFIG })
  try {
    const phase = async (rounds: number) => {
      for (let i = 0; i < rounds; i++) await round(daemon, i)
      // Closing of what the clients left takes a moment.
      await new Promise((tick) => setTimeout(tick, 500))
      return figuresOf(daemon)
    }
    await phase(40)
    const before = await phase(40)
    const after = await phase(80)
    const growth = after.residentKib - before.residentKib
    const told = JSON.stringify({ before, after })
    assert.ok(after.descriptors <= before.descriptors + 4, told)
    assert.ok(after.children <= before.children, told)
    // A leak of one event or response a round would be small; of a stream or buffer it would not.
    assert.ok(growth < 48 * 1024, told)
    const ready = await daemon.get('/cvmd/ready')
    assert.equal(ready.status, 200, await ready.text())
  } finally {
    assert.equal(await daemon.stop(), 0)
  }
})
