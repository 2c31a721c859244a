import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'smol-toml'
import { MAX_WAIT_S } from '../plugins/actions/schemas.ts'
import { MAX_CERTIFICATES } from '../src/auth/certificates.ts'
import { MAX_KEYS } from '../src/auth/key-file.ts'
import { MAX_PASSWORD_BYTES } from '../src/auth/password.ts'
import { DEFAULT_THROTTLE } from '../src/auth/throttle.ts'
import { EXIT } from '../src/http/listen.ts'
import { MAX_WAITING_ANSWERS } from '../src/http/waiting-answers.ts'
import { MAX_AUTHORITIES } from '../src/tls/client-trust.ts'
import { MAX_CRL_BYTES } from '../src/x509/crl.ts'
import { lacks } from './helpers/counterpart.ts'
import { cvmdCommand, freshFolder, runCvmd, startDaemon } from './helpers/daemon.ts'
import {
  type Block,
  countCurls,
  fencedBlocks,
  matchesShown,
  type Shown,
  shownCommands,
} from './helpers/markdown.ts'

/*
 * What README files show is done here, on a real daemon:
 *
 * - A `toml` block whose first line is `# NAME.toml` is a configuration, with flags where it says
 *   `, with --FLAG`. What follows, up to the next one, is done with a daemon of its own.
 * - A `sh` block right before it that calls openssl makes what it names; this is done first.
 * - A `js` block whose first line is `// NAME` is a file.
 * - A `sh` block with a curl in it is run, command by command, in the folder of that file.
 * - `/tmp/cvmd` stands for a fresh folder, `127.0.0.1:PORT` for a listener on a port of its own.
 * - A stream (`curl -N`) is read for three seconds, a CPU profile takes one.
 */

const README = readFileSync('README.md', 'utf8')
const BLOCKS = fencedBlocks(README)

/** Figures every daemon shows, known from the sessions below. */
const metrics = new Set<string>()

interface Session {
  readonly config: string
  readonly first?: string | undefined
  readonly args?: readonly string[]
  readonly blocks: readonly Block[]
}

function sessionsOf(blocks: readonly Block[]): Session[] {
  const sessions: { config: string; args: string[]; blocks: Block[]; first?: string }[] = []
  for (const [i, block] of blocks.entries()) {
    const [, flags] = /^# [\w-]+\.toml(?:, with (--.+))?\n/.exec(block.text) ?? []
    if (block.info === 'toml' && /^# [\w-]+\.toml/.test(block.text)) {
      const { info, text: first = '' } = blocks[i - 1] ?? {}
      const makes = info === 'sh' && /^openssl /m.test(first)
      const args = flags?.split(' ') ?? []
      sessions.push({ config: block.text, args, blocks: [], ...(makes && { first }) })
    } else sessions.at(-1)?.blocks.push(block)
  }
  return sessions
}

/** Names in the text, a pattern without groups or as written, and what they stand for. */
type Names = readonly (readonly [string | RegExp, string])[]

/** In one pass: a port of this machine may begin with the digits of one in the text. */
function named(text: string, names: Names): string {
  const groups = names.map(([from]) => `(${from instanceof RegExp ? from.source : escaped(from)})`)
  return text.replace(new RegExp(groups.join('|'), 'g'), (_match, ...found: unknown[]) => {
    const [, to] = names[found.findIndex((group) => group !== undefined)] as Names[number]
    return to
  })
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
}

interface Setting {
  /** Makes what the commands need and gives names only the running daemon has. */
  prepare?(folder: string, base: string): Promise<Names>
}

/** Runs a session and gives the number of curls that were called. */
async function play(session: Session, setting: Setting = {}): Promise<number> {
  const folder = freshFolder()
  const ports = [...new Set(session.config.match(/127\.0\.0\.1:\d+/g))]
  const place: Names = [['/tmp/cvmd', folder]]
  const config = named(session.config, [
    ...place,
    // Listeners are told apart by their addresses as written.
    ...ports.map((port, i) => [port, i === 0 ? '127.0.0.1:0' : 'localhost:0'] as const),
  ])
  if (session.first) {
    execFileSync('sh', ['-ec', named(session.first, place)], { cwd: folder, stdio: 'ignore' })
  }
  const daemon = await startDaemon({ folder, config, args: session.args ?? [] })
  try {
    const base = `http://127.0.0.1:${daemon.ports[0]}`
    const names: Names = [
      ...place,
      ...ports.map((port, i) => [port, `127.0.0.1:${daemon.ports[i]}`] as const),
      [/\bseconds=\d+/g, 'seconds=1'],
      ...((await setting.prepare?.(folder, base)) ?? []),
    ]
    for (const { info, text } of session.blocks) {
      const name = info === 'js' ? /^\/\/ (\S+)\n/.exec(text)?.[1] : undefined
      if (name !== undefined) writeFileSync(join(folder, name), named(text, names))
    }
    const shown = session.blocks
      .filter(({ info, text }) => info === 'sh' && countCurls(text) > 0)
      .map((block) => ({ ...block, text: named(block.text, names) }))
      .flatMap(shownCommands)
    const curls = await runAll(shown, folder)
    for (const [, name] of (await metricsOf(base)).matchAll(/^# TYPE (cvmd_\w+)/gm)) {
      metrics.add(name as string)
    }
    return curls
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${daemon.output()}`)
  } finally {
    await daemon.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

async function metricsOf(base: string): Promise<string> {
  // A session may end with a password set; then its daemon shows nothing here.
  return (await fetch(`${base}/cvmd/metrics`)).text()
}

/** Runs commands in one shell and compares what they print with what is shown. */
async function runAll(shown: readonly Shown[], folder: string): Promise<number> {
  const bin = join(folder, '.bin')
  mkdirSync(bin)
  const curl = execFileSync('sh', ['-c', 'command -v curl'], { encoding: 'utf8' }).trim()
  const [program, args] = cvmdCommand([])
  const quoted = [program, ...args].map((part) => `'${part}'`).join(' ')
  writeProgram(join(bin, 'cvmd'), `exec ${quoted} "$@"`)
  // Followed streams never end by themselves: 28 is curl's status for a time that is up.
  writeProgram(
    join(bin, 'curl'),
    `echo . >> '${bin}/called'
limit=15; case " $* " in *' -N '*) limit=3;; esac
'${curl}' -sS --max-time $limit -w '%{stderr}\\nHTTP %{http_code}\\n' "$@"
status=$?; [ $limit = 3 ] && [ $status = 28 ] && exit 0; exit $status`,
  )
  const script = shown.map(
    ({ command }, i) =>
      `{\n${command}\n} >'${bin}/${i}.out' 2>'${bin}/${i}.err'; echo $? >'${bin}/${i}.status'\n`,
  )
  await runShell(script.join(''), folder, bin)
  for (const [i, { command, answer, line }] of shown.entries()) {
    const read = (name: string) => readFileSync(join(bin, `${i}.${name}`), 'utf8')
    const [out, err] = [read('out'), read('err')]
    const told = `line ${line}: ${command}\n${out}${err}`
    assert.equal(read('status').trim(), '0', told)
    if (answer !== undefined) assert.ok(matchesShown(out, answer), `${told}\nshown: ${answer}`)
    else {
      // 501: a figure of the debug routes that this runtime does not have.
      for (const [, status] of err.matchAll(/^HTTP (\d+)$/gm)) {
        assert.ok(Number(status) < 400 || status === '501', told)
      }
    }
  }
  return existsSync(join(bin, 'called')) ? readFileSync(join(bin, 'called'), 'utf8').length / 2 : 0
}

function writeProgram(path: string, text: string): void {
  writeFileSync(path, `#!/bin/sh\n${text}\n`)
  chmodSync(path, 0o755)
}

function runShell(script: string, folder: string, bin: string): Promise<void> {
  const shell = spawn('sh', ['-c', script], {
    cwd: folder,
    env: { ...process.env, PATH: `${bin}:${process.env.PATH}` },
    stdio: 'ignore',
  })
  const timer = setTimeout(() => shell.kill('SIGKILL'), 60_000)
  return new Promise((done) => {
    shell.once('close', () => {
      clearTimeout(timer)
      done()
    })
  })
}

test('README: every curl works and answers as shown', async (t) => {
  if (lacks(t, 'curl')) return
  let called = 0
  for (const session of sessionsOf(BLOCKS)) called += await play(session)
  assert.ok(called > 30, `${called} curls`)
  assert.equal(called, countCurls(BLOCKS.map(({ text }) => text).join('\n')), 'each curl was run')
  assert.doesNotMatch(README, /`curl /, 'a curl in running text is not run')
})

/** The names a plugin's README uses, as something that does no harm. */
const PLUGINS: Readonly<Record<string, string>> = {
  eventlog: '[plugins.eventlog]\npprof = true\npersist = true\n',
  actions: `[plugins.actions.commands.reboot]
shell = "true"
system_api = true
[plugins.actions.commands.restart]
argv = ["echo", "{unit}"]
concurrency = 4
params = [{ name = "unit", pattern = "(nginx|haproxy)\\\\.service" }]
`,
  uploads: '[plugins.uploads.files.haproxy]\npath = "/tmp/cvmd/haproxy/haproxy.cfg"\nkeep = 3\n',
}

const SETTINGS: Readonly<Record<string, Setting>> = {
  actions: {
    prepare: async (_folder, base) => {
      const body = '{"params":{"unit":"nginx.service"}}'
      const run = await fetch(`${base}/cvmd/actions/restart/runs?wait=1`, { method: 'POST', body })
      return [[/\bID\b/g, ((await run.json()) as { id: string }).id]]
    },
  },
  uploads: {
    prepare: async (folder) => {
      const content = 'x'.repeat(1024)
      writeFileSync(join(folder, 'haproxy.cfg'), content)
      mkdirSync(join(folder, 'haproxy'))
      writeFileSync(join(folder, 'haproxy/haproxy.cfg'), 'the content before')
      const digest = createHash('sha256').update(content).digest('hex')
      return [
        ['9f86d081…', digest],
        ['/etc/haproxy', join(folder, 'haproxy')],
      ]
    },
  },
}

for (const [name, tables] of Object.entries(PLUGINS)) {
  test(`plugins/${name}/README.md: every curl works`, async (t) => {
    if (lacks(t, 'curl')) return
    const blocks = fencedBlocks(readFileSync(`plugins/${name}/README.md`, 'utf8'))
    const config = `[[listen]]\naddress = "127.0.0.1:3535"\n${tables}`
    const called = await play({ config, blocks }, SETTINGS[name])
    assert.ok(called > 0)
    assert.equal(called, countCurls(blocks.map(({ text }) => text).join('\n')))
  })
}

/** JSON Schema, as far as it is read here. */
interface Schema {
  readonly default?: unknown
  readonly description?: string
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: Schema | boolean
  readonly items?: Schema
}

/** Every key with a value, as `listen.tls.cert`; below names of a person's choice as `NAME`. */
function keysOf(schema: Schema, path = ''): [string, Schema][] {
  const below = { ...schema.properties, ...schema.items?.properties }
  const { additionalProperties: named } = schema
  const any = typeof named === 'object' && named.properties ? { NAME: named } : {}
  const entries = Object.entries({ ...below, ...any })
  if (entries.length === 0) return [[path, schema]]
  return entries.flatMap(([key, value]) => keysOf(value, path === '' ? key : `${path}.${key}`))
}

/** The values of a parsed TOML file by the same paths. */
function valuesOf(value: unknown, path = ''): [string, unknown][] {
  const table = Array.isArray(value) && typeof value[0] === 'object' ? value[0] : value
  if (typeof table !== 'object' || table === null || Array.isArray(table)) return [[path, value]]
  return Object.entries(table).flatMap(([key, inner]) =>
    valuesOf(inner, path === '' ? key : `${path}.${key}`),
  )
}

const schema = runCvmd(['schema']).then(({ stdout }) => keysOf(JSON.parse(stdout) as Schema))

test('README: the configuration is every key of the core with its default', async () => {
  const text = BLOCKS.find((block) => block.text.includes('shutdown_timeout_ms'))?.text ?? ''
  const core = (await schema).filter(([key]) => !key.startsWith('plugins.'))
  const defaults = core.filter(([, { default: value }]) => value !== undefined)
  const sorted = (entries: readonly (readonly [string, unknown])[]) =>
    [...entries].sort(([a], [b]) => (a < b ? -1 : 1))
  assert.deepEqual(
    sorted(valuesOf(parse(text))).filter(([key]) => !key.startsWith('external')),
    sorted(defaults.map(([key, { default: value }]) => [key, value] as const)),
  )
  const all = valuesOf(parse(text.replace(/^# /gm, ''))).map(([key]) => key)
  assert.deepEqual(all.sort(), core.map(([key]) => key).sort())
})

/** Figures of the table that no key sets. */
const FIXED: Readonly<Record<string, number>> = {
  'wait for a run': MAX_WAIT_S,
  'requests on a connection that wait for answers': MAX_WAITING_ANSWERS,
  'failed logins before a pause': DEFAULT_THROTTLE.burst,
  password: MAX_PASSWORD_BYTES,
  'API keys': MAX_KEYS,
  'certificates of callers, and peers': MAX_CERTIFICATES,
  'authorities of clients, and their revocation lists': MAX_AUTHORITIES,
  'one revocation list': MAX_CRL_BYTES,
}

test('README: the table of limits is complete and right', async () => {
  const section = README.slice(README.indexOf('## Limits'), README.indexOf('## Known gaps'))
  // Columns are padded by the formatter.
  const table = section.replace(/ +\|/g, ' |')
  const rows = [...table.matchAll(/^\| (.+?) \| (\d+) ?(\w*) \| `?(\S+?)`? \|$/gm)]
  const factors: Readonly<Record<string, number>> = { KiB: 1024, MiB: 1024 ** 2 }
  const shown = new Map<string, number>()
  const fixed = new Set(Object.keys(FIXED))
  for (const [, what = '', figure, unit = '', key = ''] of rows) {
    const number = Number(figure) * (factors[unit] ?? (key.endsWith('_ms') ? 1000 : 1))
    if (key !== 'fixed') shown.set(key, number)
    else if (what in FIXED) assert.equal(number, FIXED[what], what)
    fixed.delete(what)
  }
  assert.deepEqual([...fixed], [])
  const limits = (await schema).filter(([key]) =>
    /(_bytes|_ms|_s|\.queue|\.concurrency|\.keep|_files|\.max_\w+)$/.test(key),
  )
  for (const [key, { default: value, description = '' }] of limits) {
    const limit = value ?? Number(/Default (\d+)/.exec(description)?.[1])
    assert.equal(shown.get(key), limit, key)
  }
  assert.equal(shown.size, limits.length)
})

test('README: names that exist, and all of them', async () => {
  const help = (await runCvmd(['--help'])).stdout
  for (const [, command] of help.matchAll(/^ +(\w+) {2,}\S/gm)) {
    assert.match(README, new RegExp(`\`(cvmd \\[)?${command}\\b`), `cvmd ${command}`)
  }
  for (const status of Object.values(EXIT))
    assert.match(README, new RegExp(`^\\| ${status} +\\|`, 'm'))
  for (const [, path] of README.matchAll(/\]\(([^)#:]+)\)/g)) assert.ok(existsSync(path as string))
  for (const [, path] of README.matchAll(/`((?:src|test|packaging|plugins)\/[\w./-]+)`/g)) {
    assert.ok(existsSync(path as string), path)
  }
})

test('README: names every metric, and no other', (t) => {
  // Without curl the sessions above saw no metric.
  if (lacks(t, 'curl', metrics.size > 0)) return
  const documented = new Set(README.match(/\bcvmd_[a-z_]+\b/g))
  assert.deepEqual([...documented].sort(), [...metrics].sort())
})
