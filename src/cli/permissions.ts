import { defineCommand } from 'citty'
import { denoFlags, permissionsOf, systemdUnit } from '../permissions.ts'
import { prepare } from '../prepare.ts'
import { configArgs, jsonArg, out, outJson } from './common.ts'
import { prepareOptions } from './prepare-options.ts'

/** `cvmd permissions`: what this configuration touches, as a list, Deno flags or a systemd unit. */
export const permissions = defineCommand({
  meta: { name: 'permissions', description: 'Print what this configuration lets cvmd touch' },
  args: {
    ...configArgs,
    deno: { type: 'boolean', description: 'As flags for deno run', default: false },
    systemd: { type: 'boolean', description: 'As a systemd unit', default: false },
    exec: {
      type: 'string',
      description: 'Path of cvmd for the unit',
      default: '/usr/bin/cvmd',
      valueHint: 'PATH',
    },
    ...jsonArg,
  },
  async run({ args }) {
    const prepared = await prepare(prepareOptions(args))
    const list = permissionsOf(prepared)
    if (args.systemd) process.stdout.write(systemdUnit(list, args.exec, args.config))
    else if (args.deno) out(denoFlags(list).join(' '))
    else if (args.json) outJson(list)
    else {
      for (const [kind, values] of Object.entries(list)) {
        for (const value of values) out(`${kind.padEnd(6)} ${value}`)
      }
    }
  },
})
