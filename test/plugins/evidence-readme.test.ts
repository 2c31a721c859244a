/** Every curl in the READMEs of both plugins, on a daemon that simulates their machine. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { lacks } from '../helpers/counterpart.ts'
import { startDaemon } from '../helpers/daemon.ts'
import { fencedBlocks, shownCommands } from '../helpers/markdown.ts'

for (const name of ['tdx', 'nitro'] as const) {
  test(`plugins/${name}/README.md: every curl works`, async (t) => {
    if (lacks(t, 'curl')) return
    const blocks = fencedBlocks(readFileSync(`plugins/${name}/README.md`, 'utf8'))
    // The README's example of a socket with one route alone, beside the two it uses.
    const narrow = blocks.find(({ text }) => text.includes('routes = '))?.text ?? ''
    const sockets = ['cvmd', 'dstack'].map(
      (socket) => `[[listen]]\nunix = "{folder}/run/${socket}.sock"\nplugins = ["${name}"]\n`,
    )
    const alone = '[plugins.guest]\nenabled = false\n'
    const config = [...sockets, narrow.replace('/run/cvmd/', '{folder}/run/'), alone].join('\n')
    const daemon = await startDaemon({ args: ['--simulate', name], config })
    const run = join(daemon.folder, 'run')
    try {
      const commands = blocks
        .filter(({ info }) => info === 'sh')
        .flatMap(shownCommands)
        .map(({ command }) => command.replace(/\/(var\/run|run\/cvmd)\//, `${run}/`))
      assert.ok(commands.length > 5)
      for (const command of commands) {
        const { stdout, stderr, status } = spawnSync(
          'sh',
          ['-c', `${command} -sS --fail-with-body`],
          {
            cwd: daemon.folder,
            encoding: 'utf8',
          },
        )
        assert.equal(status, 0, `${command}\n${stdout}${stderr}`)
      }
      const method = name === 'tdx' ? 'GetQuote' : 'GetAttestation'
      const socket = join(run, name === 'tdx' ? 'quote.sock' : 'attest.sock')
      const status = (path: string) => {
        const args = ['-s', '-o', '/dev/null', '-w', '%{http_code}', '--unix-socket', socket]
        return spawnSync('curl', [...args, `http://localhost${path}`], { encoding: 'utf8' }).stdout
      }
      assert.equal(status(`/${method}`), '200')
      assert.equal(status('/livez'), '404')
      assert.equal(status(`/cvmd/${name}`), '404')
    } finally {
      await daemon.stop()
    }
  })
}
