/** Every curl in the README of the KMS, on a daemon that simulates a machine. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { test } from 'node:test'
import { lacks } from './helpers/counterpart.ts'
import { freshFolder, startDaemon } from './helpers/daemon.ts'
import { countCurls, fencedBlocks, matchesShown, shownCommands } from './helpers/markdown.ts'

test('plugins/kms/server/README.md: from nothing to keys', async (t) => {
  if (lacks(t, 'curl')) return
  const blocks = fencedBlocks(readFileSync('plugins/kms/server/README.md', 'utf8'))
  const config = blocks.find(({ info }) => info === 'toml')?.text ?? ''
  const folder = freshFolder()
  const own = (text: string) => text.replaceAll('/tmp/cvmd', folder)
  const listen = `[[listen]]\nunix = "${folder}/run/cvmd.sock"\n`
  const daemon = await startDaemon({
    folder,
    config: `${listen}${own(config).replace('127.0.0.1:12001', '127.0.0.1:0')}`,
    args: ['--simulate', 'tdx'],
  })
  try {
    const [, port] = /set it up on port (\d+)/.exec(daemon.output()) ?? []
    assert.ok(port, daemon.output())
    const shell = blocks.filter(({ info }) => info === 'sh')
    const commands = shell.flatMap(shownCommands)
    // The port of a listener that is opened anew: asked for once it is there.
    const portNow = (): string | undefined => {
      const { stdout } = spawnSync(
        'curl',
        ['-s', '--unix-socket', `${folder}/run/cvmd.sock`, 'http://localhost/cvmd/kms'],
        { encoding: 'utf8' },
      )
      const { mode, address }: { mode: string; address: string } = JSON.parse(stdout)
      return mode === 'serving' ? /\d+$/.exec(address)?.[0] : undefined
    }
    let before = ''
    let curls = 0
    for (const { command, answer } of commands) {
      let at: string | undefined = port
      if (command.includes('https:')) {
        const deadline = Date.now() + 15_000
        do {
          at = portNow()
          assert.ok(at !== undefined || Date.now() < deadline, daemon.output())
        } while (at === undefined)
      }
      const line: string = own(command).replaceAll('127.0.0.1:12001', `127.0.0.1:${at}`)
      const { stdout, stderr, status } = spawnSync('sh', ['-c', `${before}${line}`], {
        encoding: 'utf8',
      })
      assert.equal(status, 0, `${command}\n${stdout}${stderr}`)
      if (answer !== undefined) assert.ok(matchesShown(stdout, answer), `${command}\n${stdout}`)
      curls += countCurls(command)
      // Variables stay.
      if (/^[A-Z]+=/.test(command)) before += `${line}\n`
    }
    assert.equal(
      curls,
      shell.map(({ text }) => countCurls(text)).reduce((a, b) => a + b),
    )
    const status = spawnSync('sh', ['-c', `ls -l ${folder}/state/kms`], { encoding: 'utf8' })
    assert.doesNotMatch(status.stdout, /onboard-token/, 'the token was for one time')
  } finally {
    await daemon.stop()
    rmSync(folder, { recursive: true, force: true })
  }
})
