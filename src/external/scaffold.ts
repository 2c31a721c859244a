import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { errnoOf } from '../errors.ts'
import { PLUGIN_NAME } from './shape.ts'

/**
 * Writes a new plugin that imports nothing, `<dir>/<name>/`: the module, its README, its sample
 * and a test. It passes `cvmd plugin test` and can be named in `[[external]]` as it is.
 *
 * @returns The paths written, absolute.
 * @throws {TypeError} When the name is no plugin name.
 * @throws {Error} When the folder is there already; nothing is ever overwritten.
 */
export function scaffold(name: string, dir: string): string[] {
  if (!PLUGIN_NAME.test(name)) {
    throw new TypeError(`Cannot make a plugin "${name}": the name must match ${PLUGIN_NAME.source}`)
  }
  const folder = resolve(dir, name)
  mkdirSync(resolve(dir), { recursive: true })
  try {
    mkdirSync(folder)
  } catch (cause) {
    if (errnoOf(cause) !== 'EEXIST') throw cause
    throw new Error(`Cannot make "${folder}": it is there already, remove it or take another name`)
  }
  const files: Readonly<Record<string, string>> = {
    'index.js': moduleText(name),
    'config.sample.toml': sampleText(name),
    'README.md': readmeText(name, join(folder, 'index.js')),
    [`${name}.test.mjs`]: testText(name),
    // Without it Node may read index.js as CommonJS, depending on the folders above.
    'package.json': `${JSON.stringify({ name, private: true, type: 'module' }, null, 2)}\n`,
  }
  return Object.entries(files).map(([file, text]) => {
    const path = join(folder, file)
    writeFileSync(path, text, { flag: 'wx' })
    return path
  })
}

function moduleText(name: string): string {
  return `// A plugin of cvmd. It imports nothing: all it needs comes in as the kit.

/** @param {import('cvmd/plugin').Kit} kit */
export default ({ definePlugin, Hono, v, z, route, validate, ApiError }) => {
  const Config = v.strictObject({
    greeting: v.optional(v.pipe(v.string(), v.nonEmpty(), v.description('Said first')), 'hello'),
  })
  const Who = z.object({ who: z.string().min(1).max(64) })

  return definePlugin({
    name: '${name}',
    summary: 'Greets a caller and records it in the event log',
    config: Config,
    // 'local' serves on Unix sockets only.
    exposure: 'network',

    // Builds and opens nothing: files, sockets and timers belong into start().
    setup({ config, events }) {
      const routes = new Hono().get(
        '/${name}/hello/:who',
        route({ summary: 'Greet somebody' }),
        validate('param', Who),
        (c) => {
          const { who } = c.req.valid('param')
          if (who === 'nobody') {
            throw new ApiError(404, 'NAME_NOT_FOUND', \`Cannot greet "\${who}": there is nobody\`)
          }
          events.append(\`greeted \${who}\`)
          return c.json({ message: \`\${config.greeting} \${who}\` })
        },
      )
      return {
        routes,
        start() {},
        // Safe without start(), twice, and after a start() that failed.
        stop() {},
      }
    },
  })
}
`
}

function sampleText(name: string): string {
  return `[plugins.${name}]
## The word said before the name of the caller.
# greeting = "hello"
`
}

function readmeText(name: string, path: string): string {
  return `# ${name}

## Name

${name} - greets a caller and records it in the event log

## Description

An example to start from. Say here what the plugin is for, and for whom.

## Requires

Nothing.

## Configuration

\`\`\`toml
${sampleText(name)}\`\`\`

Name the module in the daemon's configuration; its SHA-256 makes sure that nothing else runs:

\`\`\`sh
printf '[[external]]\\npath = "${path}"\\nsha256 = "%s"\\n' \\
  "$(sha256sum ${path} | cut -d' ' -f1)"
\`\`\`

## Routes

\`GET /${name}/hello/:who\` greets:

\`\`\`sh
curl http://127.0.0.1:3535/${name}/hello/ada
\`\`\`

## Errors

| status | code | when |
|---|---|---|
| 400 | \`INVALID_REQUEST\` | the name is longer than 64 characters |
| 404 | \`NAME_NOT_FOUND\` | the name is \`nobody\` |

## Events

\`greeted <name>\` for each greeting.

## Permissions

None.

## Source

This plugin's own API.
`
}

function testText(name: string): string {
  return `// Run with: node --test ${name}.test.mjs (CVMD names the command if it is not on the PATH)
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const [command, ...first] = (process.env.CVMD ?? 'cvmd').split(' ')
const module = fileURLToPath(new URL('index.js', import.meta.url))

test('the plugin keeps the contract', () => {
  const { status, stdout, stderr } = spawnSync(command, [...first, 'plugin', 'test', module])
  assert.equal(status, 0, \`\${stdout}\${stderr}\`)
})

test('it greets, in a daemon of its own', async () => {
  const folder = mkdtempSync(join(tmpdir(), '${name}-'))
  const config = join(folder, 'cvmd.toml')
  writeFileSync(
    config,
    \`state_dir = "\${folder}/state"
run_dir = "\${folder}/run"
[[listen]]
address = "127.0.0.1:0"
[[external]]
path = "\${module}"
\`,
  )
  const daemon = spawn(command, [...first, 'serve', '--config', config])
  try {
    const address = await listening(daemon)
    const answer = await fetch(\`http://\${address}/${name}/hello/ada\`)
    assert.deepEqual(await answer.json(), { message: 'hello ada' })
    const nobody = await fetch(\`http://\${address}/${name}/hello/nobody\`)
    assert.equal(nobody.status, 404)
  } finally {
    daemon.kill()
    await new Promise((done) => daemon.once('close', done))
    rmSync(folder, { recursive: true, force: true })
  }
})

/** Waits for the line that tells the port. */
function listening(daemon) {
  return new Promise((done, failed) => {
    let output = ''
    const read = (data) => {
      output += data
      const found = /Listening on (127\\.0\\.0\\.1:\\d+)/.exec(output)
      if (found) done(found[1])
    }
    daemon.stdout.on('data', read)
    daemon.stderr.on('data', read)
    daemon.once('close', () => failed(new Error(output)))
  })
}
`
}
