/** The README's way of a deployment from nothing to its end, line by line, on a real daemon. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { installed, lacks } from '../helpers/counterpart.ts'
import { startDaemon } from '../helpers/daemon.ts'
import { countCurls, fencedBlocks, matchesShown, shownCommands } from '../helpers/markdown.ts'
import { isErased } from '../helpers/zos-grid.ts'

const LINE_END = '@@line-end@@'

test('plugins/zos/README.md: every command works and answers as shown', async (t) => {
  if (lacks(t, 'curl') || lacks(t, 'openssl', installed('openssl'))) return
  const daemon = await startDaemon({
    config: `state_dir = "{folder}/state"
run_dir = "{folder}/run"
[[listen]]
unix = "{folder}/run/cvmd.sock"
[[listen]]
address = "127.0.0.1:0"
[plugins.zos.drivers]
zmachine = "off"
`,
  })
  t.after(() => daemon.stop())
  const blocks = fencedBlocks(readFileSync('plugins/zos/README.md', 'utf8'))
  const shell = blocks.filter(({ info }) => info === 'sh')
  let curls = 0
  let variables = ''
  for (const block of shell) {
    const commands = joinDocuments(block.text)
    for (const { command, answer } of shownCommands({ ...block, text: commands })) {
      curls += countCurls(command)
      const line = command
        .replaceAll(LINE_END, '\n')
        .replaceAll('/run/cvmd/cvmd.sock', daemon.socket)
        .replaceAll('127.0.0.1:3535', `127.0.0.1:${daemon.ports[0]}`)
        .replaceAll(/curl /g, 'curl --fail-with-body --max-time 30 ')
      const [, name] = /^([A-Z]+)=\$\(/.exec(line) ?? []
      const after = name ? `\nprintf %s "$${name}"` : ''
      const output = await run(`${variables}${line}${after}`, daemon.folder)
      if (name) {
        assert.match(output, /^[0-9a-f]{32,128}$/, command)
        variables += `${name}=${output}\n`
      }
      if (answer !== undefined) assert.ok(matchesShown(output, answer), `${command}\n${output}`)
      if (command.includes('@ended.json')) await isErased(daemon.socket, 8955)
    }
  }
  assert.equal(
    curls,
    shell.map(({ text }) => countCurls(text)).reduce((a, b) => a + b),
  )
})

/** Each here-document on one line with its command. */
function joinDocuments(text: string): string {
  return text.replace(/^(cat .*<<('?)END\2)\n([\s\S]*?)\nEND$/gm, (_, first, __, body) =>
    [first, ...body.split('\n'), 'END'].join(LINE_END),
  )
}

async function run(command: string, cwd: string): Promise<string> {
  const child = spawn('sh', ['-ec', command], { cwd })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      output += data
    })
  }
  const timer = setTimeout(() => child.kill('SIGKILL'), 60_000)
  const [status] = await once(child, 'close')
  clearTimeout(timer)
  assert.equal(status, 0, `${command}\n${output}`)
  return output
}
