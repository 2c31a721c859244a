import { defineCommand } from 'citty'
import { readConfig, requirementsOf } from '../config/resolve.ts'
import type { Machine } from '../device/machine.ts'
import type { Finding } from '../device/probe/finding.ts'
import { probe } from '../device/probe.ts'
import { simulatedTransport } from '../prepare.ts'
import { runtimeVersion } from '../runtime.ts'
import { VERSION } from '../version.ts'
import { configArgs, jsonArg, out, outJson } from './common.ts'
import { prepareOptions } from './prepare-options.ts'

/** `cvmd doctor`: every probe with what was tried, what it means and what to do. */
export const doctor = defineCommand({
  meta: { name: 'doctor', description: 'Probe the machine and explain what was found' },
  args: { root: configArgs.root, simulate: configArgs.simulate, ...jsonArg },
  async run({ args }) {
    const options = prepareOptions(args)
    const machine = await probe(
      options.root,
      requirementsOf(readConfig(undefined, {}), options.builtins),
      { transport: await simulatedTransport(options) },
    )
    if (args.json) outJson(report(machine))
    else print(machine)
  },
})

function report(machine: Machine) {
  const { root, transport, noNative, probes, tdxFindings: tdx } = machine
  const devices = { transport: transport.kind, ...(noNative && { noNative }) }
  return { version: VERSION, runtime: runtimeVersion(), root, devices, probes, tdx }
}

function print({ transport, noNative, probes, tdxFindings }: Machine): void {
  out(`cvmd ${VERSION} on ${runtimeVersion()}`)
  const why = noNative === undefined ? '' : `, not natively: ${noNative.reason}`
  out(`devices are reached by ${transport.kind} calls${why}`)
  if (noNative?.remedy !== undefined) out(`${INDENT}remedy: ${noNative.remedy}`)
  for (const { capability, ...finding } of probes) printFinding(capability, finding)
  if (!tdxFindings) return
  out('of tdx:')
  printFinding('report', tdxFindings.tdReports)
  printFinding('rtmr', tdxFindings.registers)
}

const INDENT = ' '.repeat(7)

function printFinding(name: string, finding: Finding): void {
  const { state, path, tried, errno, meaning, remedy } = finding
  out(`${name.padEnd(6)} ${state.padEnd(8)} ${path}`)
  if (tried !== undefined) out(`${INDENT}tried: ${tried}`)
  out(`${INDENT}${errno === undefined ? '' : `${errno}: `}${meaning}`)
  if (remedy !== undefined) out(`${INDENT}remedy: ${remedy}`)
}
