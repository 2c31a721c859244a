/** Every curl of the plugin's README, on a daemon that simulates a machine. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { lacks } from '../helpers/counterpart.ts'
import { startDaemon } from '../helpers/daemon.ts'
import { countCurls, fencedBlocks, shownCommands } from '../helpers/markdown.ts'

const blocks = fencedBlocks(readFileSync('plugins/guest/README.md', 'utf8'))

test('plugins/guest/README.md: every curl works', async (t) => {
  if (lacks(t, 'curl') || lacks(t, 'openssl')) return
  const visitors = blocks.find(({ text }) => text.includes('0.0.0.0:8090'))?.text ?? ''
  const sockets = ['dstack', 'tappd'].map(
    (name) =>
      `[[listen]]\nunix = "{folder}/${name}.sock"\nplugins = ["tdx", "guest"]\ncore = false\n`,
  )
  const config = [
    ...sockets,
    visitors.replace('0.0.0.0:8090', '127.0.0.1:0'),
    '[plugins.guest]\nemit_event = true\npublic_sysinfo = true\n',
  ].join('\n')
  const daemon = await startDaemon({ args: ['--simulate', 'tdx'], config })
  try {
    const shown = blocks.filter(({ info }) => info === 'sh').flatMap(shownCommands)
    assert.equal(shown.length, countCurls(blocks.map(({ text }) => text).join('\n')))
    assert.ok(shown.length > 15)
    for (const { command } of shown) {
      const here = command
        .replace('/var/run/', `${daemon.folder}/`)
        .replace('203.0.113.7:8090', `127.0.0.1:${daemon.ports[0]}`)
        .replace(/^curl /, 'curl -sS --fail-with-body ')
      const { stdout, stderr, status } = spawnSync('sh', ['-c', here], { encoding: 'utf8' })
      assert.equal(status, 0, `${command}\n${stdout}${stderr}`)
      assert.notEqual(stdout, '')
    }
  } finally {
    await daemon.stop()
  }
})
