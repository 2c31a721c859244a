/** Every curl in the plugin's README, on a daemon that simulates a machine. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { lacks } from '../helpers/counterpart.ts'
import { startDaemon } from '../helpers/daemon.ts'
import { countCurls, fencedBlocks, shownCommands } from '../helpers/markdown.ts'

test('plugins/kms/README.md: every curl works, and a socket without keys has none', async (t) => {
  if (lacks(t, 'curl')) return
  const blocks = fencedBlocks(readFileSync('plugins/kms/README.md', 'utf8'))
  const narrow = blocks.find(({ text }) => text.includes('[[listen]]'))?.text ?? ''
  const sockets = ['dstack', 'tappd'].map(
    (name) =>
      `[[listen]]\nunix = "{folder}/run/${name}.sock"\nplugins = ["kms"]\ndialect = "dstack"\n`,
  )
  const config = [...sockets, narrow.replace('/run/cvmd/', '{folder}/run/')].join('\n')
  const daemon = await startDaemon({ args: ['--simulate', 'tdx'], config })
  const run = join(daemon.folder, 'run')
  try {
    const shell = blocks.filter(({ info }) => info === 'sh')
    const commands = shell.flatMap(shownCommands)
    assert.equal(
      commands.length,
      shell.map(({ text }) => countCurls(text)).reduce((a, b) => a + b),
    )
    for (const { command, answer } of commands) {
      const line = `${command.replace('/var/run/', `${run}/`)} -sS --fail-with-body`
      const { stdout, stderr, status } = spawnSync('sh', ['-c', line], { encoding: 'utf8' })
      assert.equal(status, 0, `${command}\n${stdout}${stderr}`)
      const given = JSON.parse(stdout)
      if (answer !== undefined)
        assert.deepEqual(Object.keys(given), Object.keys(JSON.parse(answer)))
      if (command.includes('/Verify')) assert.deepEqual(given, { valid: true })
    }
    for (const [path, expected] of [
      ['GetQuote', '200'],
      ['GetKey', '404'],
    ]) {
      const args = ['-s', '-o', '/dev/null', '-w', '%{http_code}', '--unix-socket']
      const { stdout } = spawnSync(
        'curl',
        [...args, join(run, 'quote.sock'), `http://localhost/${path}`],
        {
          encoding: 'utf8',
        },
      )
      assert.equal(stdout, expected, path)
    }
  } finally {
    await daemon.stop()
  }
})
