// The supervisor on a private container engine: supervisor.ts on Node, whatever runs the daemon.
import { execFileSync } from 'node:child_process'
import { RUNTIMES, typescript } from './variants.mjs'

export async function run({ quick, rounds, seconds, runtimes = RUNTIMES }) {
  const [command, args] = typescript('node', 'bench/supervisor.ts')
  const flags = ['--json', ...(quick ? ['--quick'] : [])]
  if (rounds !== undefined) flags.push('--rounds', String(rounds))
  if (seconds !== undefined) flags.push('--seconds', String(seconds))
  for (const runtime of runtimes) flags.push('--runtime', runtime)
  const stdio = ['ignore', 'pipe', 'inherit']
  return JSON.parse(execFileSync(command, [...args, ...flags], { encoding: 'utf8', stdio }))
}
