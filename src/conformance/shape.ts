import { basename, isAbsolute, normalize } from 'node:path'
import { Hono } from 'hono'
import * as v from 'valibot'
import { ApiError } from '../errors.ts'
import { type Check, fail, failAny, parseConfig } from './check.ts'

/** Name, configuration schema, permissions and errors: what the core reads before `setup`. */
export const shapeChecks: readonly Check[] = [
  {
    check: 'the name is the folder',
    run({ plugin, options: { folder, builtin } }) {
      if (!builtin || folder === undefined) return 'asked of built-in plugins only'
      if (basename(folder) !== plugin.name) fail(`the folder is "${basename(folder)}"`)
      return undefined
    },
  },
  {
    check: 'the summary is one line without a full stop',
    run({ plugin }) {
      if (plugin.summary.endsWith('.')) fail(`"${plugin.summary}" ends with a full stop`)
      return undefined
    },
  },
  {
    check: 'the config is a strictObject that accepts its table',
    run({ plugin, table }) {
      const probe = v.safeParse(plugin.config, { 'no such key': true })
      if (probe.success) fail('it accepts an unknown key: use v.strictObject')
      parseConfig(plugin, table)
      const empty = v.safeParse(plugin.config, {}).success
      return empty ? 'and the empty table' : 'but not the empty one: some key must be set'
    },
  },
  {
    check: 'permissions are absolute paths and lists of text',
    run({ plugin, table }) {
      const declared = plugin.permissions?.(parseConfig(plugin, table))
      if (declared === undefined) return 'none declared'
      const complaints: string[] = []
      for (const [kind, values] of Object.entries(declared)) {
        if (!['read', 'write', 'net', 'run', 'env'].includes(kind)) complaints.push(`no "${kind}"`)
        else if (!Array.isArray(values)) complaints.push(`${kind} is no list`)
        else if (kind === 'read' || kind === 'write') {
          for (const path of values) {
            const good = isAbsolute(path) && (normalize(path) === path || `${path}` === '/')
            if (!good) complaints.push(`${kind} "${path}" is no plain absolute path`)
          }
        }
      }
      failAny(complaints)
      return undefined
    },
  },
  {
    check: 'renderError gives a Response of the same status',
    async run({ plugin }) {
      if (!plugin.renderError) return 'problem+json'
      for (const status of [404, 500] as const) {
        const error = new ApiError(status, 'TEST', 'Cannot find "x": this is a test')
        const app = new Hono().get('*', (c) => plugin.renderError?.(error, c) as Response)
        const answer = await app.request('/anything')
        if (answer.status !== status) fail(`for ${status} it gives ${answer.status}`)
      }
      return 'in a dialect of its own'
    },
  },
]
