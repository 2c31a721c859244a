import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type * as v from 'valibot'
import { parseToml, type TomlTable } from '../config/toml.ts'
import { routesOf } from '../registry.ts'
import { type Check, fail, failAny, parseConfig, type Subject, sameConfig } from './check.ts'

const SAMPLE = 'config.sample.toml'

/** The sections of a plugin's README, in this order, as in the pages of a manual. */
export const README_SECTIONS = [
  'Name',
  'Description',
  'Requires',
  'Configuration',
  'Routes',
  'Errors',
  'Events',
  'Permissions',
  'Source',
] as const

/** The table a sample gives its plugin; undefined where there is no sample. */
export function sampleTable(name: string, folder: string | undefined): unknown {
  if (folder === undefined || !existsSync(join(folder, SAMPLE))) return undefined
  return tableIn(readFileSync(join(folder, SAMPLE), 'utf8'), name)
}

/** README.md and config.sample.toml beside the plugin. */
export const folderChecks: readonly Check[] = [
  inFolder('the sample as it stands parses to the defaults', ({ plugin }, sample) => {
    const config = parseConfig(plugin, tableIn(sample, plugin.name))
    const bare = sample.split('\n').some((line) => /^[a-z_]+\s*=/.test(line))
    if (bare) return 'it sets keys that have no default'
    if (!sameConfig(config, parseConfig(plugin, {}))) fail('it differs from the empty table')
    return undefined
  }),
  inFolder('the sample with every `# key = value` is accepted', ({ plugin }, sample) => {
    const shown = sample.replace(/^# ?(?!#)/gm, '')
    parseConfig(plugin, tableIn(shown, plugin.name))
    return undefined
  }),
  inFolder('the sample names every key', ({ plugin }, sample) => {
    const { entries } = plugin.config as v.GenericSchema & { readonly entries?: object }
    const missing = Object.keys(entries ?? {}).filter(
      (key) => !new RegExp(`\\b${key}\\b`).test(sample),
    )
    failAny(missing.map((key) => `"${key}" is missing`))
    return undefined
  }),
  {
    check: 'the README has its sections and the sample',
    run({ options: { folder } }) {
      if (folder === undefined) return 'no folder given'
      const readme = readText(folder, 'README.md')
      const found = [...readme.matchAll(/^## (.+)$/gm)].map(([, title]) => title?.trim())
      const order = found.filter((title) => (README_SECTIONS as readonly unknown[]).includes(title))
      if (order.join() !== README_SECTIONS.join()) {
        fail(`expected the sections ${README_SECTIONS.join(', ')}; found ${order.join(', ')}`)
      }
      const sample = readText(folder, SAMPLE).trim()
      if (!readme.includes(`\`\`\`toml\n${sample}\n\`\`\``)) fail(`${SAMPLE} is not in it verbatim`)
      return undefined
    },
  },
  {
    check: 'the README shows every route',
    run(subject) {
      const { folder } = subject.options
      if (folder === undefined) return 'no folder given'
      const readme = readText(folder, 'README.md')
      if (!/\bcurl\b/.test(readme)) fail('it has no curl command')
      const missing = routesOf(subject.setUp()).filter(
        ({ path }) => !readme.includes(path.split(/[:*{]/)[0] as string),
      )
      failAny(missing.map(({ method, path }) => `${method} ${path} is missing`))
      return undefined
    },
  },
]

function inFolder(
  check: string,
  run: (subject: Subject, sample: string) => string | undefined,
): Check {
  return {
    check,
    run(subject) {
      const { folder } = subject.options
      return folder === undefined ? 'no folder given' : run(subject, readText(folder, SAMPLE))
    },
  }
}

function tableIn(sample: string, name: string): unknown {
  const { plugins, ...rest } = parseToml(sample, SAMPLE)
  failAny(Object.keys(rest).map((key) => `"${key}" stands outside [plugins.${name}]`))
  const { [name]: table = {}, ...others } = (plugins ?? {}) as TomlTable
  failAny(Object.keys(others).map((key) => `[plugins.${key}] is another plugin's table`))
  return table
}

function readText(folder: string, name: string): string {
  const path = join(folder, name)
  if (!existsSync(path)) fail(`${name} is missing`)
  return readFileSync(path, 'utf8')
}
