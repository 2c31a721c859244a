/** What a command loads before it runs: everything else is to come when it is needed. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'

/** Statements that load something; `import type` and `import()` do not. */
const STATIC = /^(?:import|export)\s+(?!type\b)(?:[^'"]*?\sfrom\s+)?'([^']+)'/gm

/** The modules and packages that come with a command, each with who asked for it first. */
function loadedBy(command: string): ReadonlyMap<string, string> {
  const loaded = new Map<string, string>()
  const add = (file: string, by: string) => {
    if (loaded.has(file)) return
    loaded.set(file, by)
    for (const [, name = ''] of readFileSync(file, 'utf8').matchAll(STATIC)) {
      if (name.startsWith('node:')) continue
      if (!name.startsWith('.')) loaded.set(packageOf(name), loaded.get(packageOf(name)) ?? file)
      else if (name.endsWith('.ts')) add(join(dirname(file), name), file)
    }
  }
  for (const file of ['src/main.ts', `src/cli/${command}.ts`]) add(file, '')
  return loaded
}

function packageOf(name: string): string {
  return name
    .split('/')
    .slice(0, name.startsWith('@') ? 2 : 1)
    .join('/')
}

test('the daemon starts with no package that only some of its plugins need', () => {
  const loaded = loadedBy('serve')
  const packages = [...loaded.keys()].filter((name) => !/^(src|plugins|package\.json)/.test(name))
  assert.ok(packages.includes('hono') && packages.includes('zod'), packages.join())
  const core = ['@hono/node-server', '@hono/zod-validator', 'citty', 'consola', 'hono']
  const checking = ['cborg', 'smol-toml', 'valibot', 'zod']
  const others = packages.filter((name) => ![...core, ...checking].includes(name))
  assert.deepEqual(
    others.map((name) => `${name} <- ${loaded.get(name)}`),
    [],
  )
})

test('commands that need no configuration load no plugin', () => {
  for (const command of ['version', 'verify', 'plugin']) {
    const plugins = [...loadedBy(command)].filter(([file]) => file === 'plugins/index.ts')
    assert.deepEqual(plugins, [], command)
  }
  assert.ok(loadedBy('check').has('plugins/index.ts'))
})
