import assert from 'node:assert/strict'
import { readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { type DaemonProcess, runCvmd, startDaemon, unixRequest } from './helpers/daemon.ts'

const BASE = `[[listen]]
address = "127.0.0.1:0"
[[listen]]
unix = "{folder}/run/cvmd.sock"
`

function rewrite(daemon: DaemonProcess, text: string): void {
  const file = join(daemon.folder, 'cvmd.toml')
  writeFileSync(`${file}.new`, text.replaceAll('{folder}', daemon.folder))
  renameSync(`${file}.new`, file)
}

async function reload(daemon: DaemonProcess) {
  const answer = await unixRequest(daemon.socket, '/cvmd/reload', { method: 'POST' })
  return { status: answer.status, body: JSON.parse(answer.body) as Record<string, never> }
}

test('a good file is applied whole, unchanged plugins and listeners stay', async () => {
  const daemon = await startDaemon({ config: BASE })
  try {
    await daemon.get('/cvmd/events', {
      method: 'POST',
      body: JSON.stringify({ message: 'before' }),
      headers: { 'content-type': 'application/json' },
    })
    rewrite(
      daemon,
      `${BASE}[plugins.actions.commands.hello]\nargv = ["echo", "hi"]
[[listen]]
unix = "{folder}/run/extra.sock"
plugins = ["eventlog"]
`,
    )
    const { status, body } = await reload(daemon)
    assert.equal(status, 200, JSON.stringify(body))
    assert.deepEqual(body.started, ['actions'])
    assert.deepEqual(body.stopped, ['actions'])
    assert.deepEqual(body.kept, ['eventlog', 'uploads', 'zos'])
    const run = await daemon.get('/cvmd/actions/hello/runs?wait=1', { method: 'POST' })
    assert.equal(run.status, 200, await run.clone().text())
    const extra = join(daemon.folder, 'run/extra.sock')
    assert.match((await unixRequest(extra, '/logs')).body, /before/)
    assert.equal((await unixRequest(extra, '/cvmd/actions')).status, 404)
    rewrite(daemon, `${BASE}[plugins.actions]\nenabled = false\n`)
    assert.equal((await reload(daemon)).status, 200)
    assert.equal((await daemon.get('/cvmd/actions')).status, 404)
    await assert.rejects(unixRequest(extra, '/logs'))
    assert.match(await (await daemon.get('/logs')).text(), /before/)
  } finally {
    assert.equal(await daemon.stop(), 0)
  }
})

test('a bad file changes nothing and is explained', async () => {
  const daemon = await startDaemon({ config: BASE })
  try {
    for (const [text, reason] of [
      ['[plugins.eventlog]\nmax_entris = 1\n', /cvmd\.toml:2:1: plugins\.eventlog\.max_entris/],
      ['[plugins.', /cvmd\.toml:1/],
      [`${BASE}state_dir = "/elsewhere"\n`, /listen\.1\.state_dir/],
      [`state_dir = "/tmp/elsewhere"\n${BASE}`, /./],
      [`${BASE}[[listen]]\nunix = "/proc/none/x.sock"\n`, /Cannot listen on unix:\/proc\/none/],
      [`${BASE}[plugins.eventlog]\nfifo = "{folder}"\n`, /is not a named pipe/],
    ] as const) {
      rewrite(daemon, text)
      const { status, body } = await reload(daemon)
      if (status === 200) {
        // The environment of the test fixes state_dir, so that one case is no change at all.
        assert.match(text, /state_dir = "\/tmp/)
        continue
      }
      assert.ok(status === 422 || status === 409, `${status} ${text}`)
      assert.match(String(body.detail), reason)
      assert.equal((await daemon.get('/logs')).status, 200)
      assert.equal((await daemon.get('/cvmd/actions')).status, 200)
      const ready = await daemon.get('/cvmd/ready')
      assert.deepEqual(await ready.json(), { ready: true, waiting: {} }, text)
    }
    const command = await runCvmd(['reload', '--socket', daemon.socket])
    assert.equal(command.status, 1)
    assert.match(command.stderr, /is not a named pipe/)
    const events = await (await daemon.get('/cvmd/events?source=cvmd')).json()
    assert.match(JSON.stringify(events), /configuration not reloaded, the old one stays/)
  } finally {
    await daemon.stop()
  }
})

test('SIGHUP reloads, and requests under way and meanwhile are all answered', async () => {
  const daemon = await startDaemon({ config: BASE })
  let stop = false
  const statuses = new Map<number, number>()
  const hammer = async () => {
    while (!stop) {
      const { status } = await daemon.get('/cvmd/actions')
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
    }
  }
  try {
    const load = Promise.all([hammer(), hammer(), hammer()])
    const file = join(daemon.folder, 'cvmd.toml')
    for (let i = 0; i < 12; i++) {
      if (i % 4 === 3) rewrite(daemon, '[broken')
      else if (i % 4 === 2) {
        // A half-written file behind a link, as a careless tool leaves it.
        writeFileSync(join(daemon.folder, 'half'), readFileSync(file, 'utf8').slice(0, 20))
        symlinkSync(join(daemon.folder, 'half'), `${file}.link${i}`)
        renameSync(`${file}.link${i}`, file)
      } else {
        rewrite(daemon, `${BASE}[plugins.actions.commands.a${i}]\nargv = ["true"]\n`)
      }
      daemon.signal('SIGHUP')
      await new Promise((tick) => setTimeout(tick, 80))
    }
    rewrite(daemon, `${BASE}[plugins.actions.commands.final]\nargv = ["true"]\n`)
    assert.equal((await reload(daemon)).status, 200)
    stop = true
    await load
    assert.deepEqual([...statuses.keys()], [200])
    assert.match(await (await daemon.get('/cvmd/actions')).text(), /"final"/)
    assert.match(daemon.output(), /Configuration not reloaded/)
  } finally {
    stop = true
    await daemon.stop()
  }
})
