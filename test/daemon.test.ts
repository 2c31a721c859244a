import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { startDaemon, unixRequest } from './helpers/daemon.ts'

test('the daemon starts with its defaults, answers on both listeners and stops cleanly', async () => {
  const daemon = await startDaemon({
    config: '[[listen]]\naddress = "127.0.0.1:0"\n[[listen]]\nunix = "{folder}/run/cvmd.sock"\n',
  })
  const livez = await daemon.get('/livez')
  assert.equal(await livez.text(), '{"status":"ok"}\n')
  const ready = await unixRequest(daemon.socket, '/cvmd/ready')
  assert.equal(ready.status, 200, daemon.output())
  assert.equal(await daemon.stop(), 0)
  assert.equal(existsSync(daemon.socket), false)
})
