import { defineCommand } from 'citty'
import { probe } from '../device/probe.ts'
import { runtimeVersion } from '../runtime.ts'
import { VERSION } from '../version.ts'
import { configArgs, jsonArg, out, outJson, prepareOptions } from './common.ts'

/** `cvmd doctor`: every probe with what was tried, what it means and what to do. */
export const doctor = defineCommand({
  meta: { name: 'doctor', description: 'Probe the machine and explain what was found' },
  args: { root: configArgs.root, ...jsonArg },
  async run({ args }) {
    const { root, builtins } = prepareOptions(args)
    const machine = await probe(
      root,
      builtins.map(({ requires }) => requires),
    )
    if (args.json) {
      outJson({ version: VERSION, runtime: runtimeVersion(), root, probes: machine.probes })
      return
    }
    out(`cvmd ${VERSION} on ${runtimeVersion()}`)
    for (const found of machine.probes) {
      out(`${found.capability.padEnd(6)} ${found.state.padEnd(8)} ${found.path}`)
      out(`       ${found.errno === undefined ? '' : `${found.errno}: `}${found.meaning}`)
      if (found.remedy !== undefined) out(`       remedy: ${found.remedy}`)
    }
  },
})
