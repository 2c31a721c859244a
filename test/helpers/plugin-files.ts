import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Writes a plugin file in the `(kit) => plugin` form and gives its path. */
export function writePlugin(folder: string, name: string, body: string): string {
  return writeModule(
    folder,
    name,
    `export default ({ definePlugin, Hono, v, z, route, validate, looseJson, ApiError }) =>
  definePlugin({
    name: '${name}', summary: 'A test', exposure: 'network', config: v.strictObject({}),
    ${body}
  })\n`,
  )
}

/** Writes a module as it is and gives its path. */
export function writeModule(folder: string, name: string, text: string): string {
  const path = join(folder, `${name}.mjs`)
  writeFileSync(path, text)
  return path
}

/** Bundles test/fixtures/bundled-plugin.ts into one file, as its author would. */
export function bundlePlugin(folder: string): string {
  const out = join(folder, 'bundled.mjs')
  const args = ['test/fixtures/bundled-plugin.ts', '--bundle', '--format=esm', '--platform=node']
  const { status, stderr } = spawnSync('./node_modules/.bin/esbuild', [
    ...args,
    '--log-level=error',
    `--outfile=${out}`,
  ])
  if (status !== 0) throw new Error(`esbuild failed: ${stderr}`)
  return out
}

/** SHA-256 of a file in hex. */
export function digestOf(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}

/** `[[external]]` tables for a configuration. */
export function externalTables(paths: readonly string[]): string {
  return paths.map((path) => `[[external]]\npath = "${path}"\n`).join('')
}
