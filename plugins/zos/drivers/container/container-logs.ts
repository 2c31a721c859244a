import type { Engine } from '../../../../src/engine/engine.ts'
import type { MachineLogs } from '../machine-logs.ts'
import { OWNER_LABEL, WORKLOAD_LABEL } from '../names.ts'
import { label } from './labels.ts'

/** Longer lines are cut. */
const MAX_LINE_BYTES = 64 * 1024

/** What the machines of this node in a container engine write. */
export function containerLogs({ containers }: Engine, owner: string): MachineLogs {
  return {
    async *follow(machineId, { tail, since, signal }) {
      const labels = [label(OWNER_LABEL, owner), label(WORKLOAD_LABEL, machineId)]
      const [machine] = await containers.list({ labels, signal })
      if (!machine) return
      yield* containers.logs(machine.Id, {
        follow: true,
        maxLineBytes: MAX_LINE_BYTES,
        signal,
        ...(since === undefined ? { tail } : { since }),
      })
    },
  }
}
