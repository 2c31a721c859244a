import type { Attester } from '../../src/attester/attester.ts'
import { MachineAttester } from '../../src/attester/machine-attester.ts'
import { probe } from '../../src/device/probe.ts'
import type { Fault } from '../../src/simulate/machine.ts'
import { createSimulator, type SimulatorTrust } from '../../src/simulate/simulator.ts'

/** A machine in memory that was probed like a real one, with its queues and its event log. */
export interface SimulatedMachine {
  readonly attester: Attester
  readonly trust: SimulatorTrust
  /** What goes wrong from now on; probing was without. */
  fault: Fault
  /** The attester that takes this one's place when the configuration changes. */
  reconfigured(): Attester
}

export interface SimulatedOptions {
  /** For one device call. Default: 10 s. */
  readonly deadlineMs?: number
  /** Places to wait in a queue. Default: 64. */
  readonly waiting?: number
}

export async function simulatedMachine(
  platform: 'tdx' | 'nitro',
  { deadlineMs: deadline_ms = 10_000, waiting = 64 }: SimulatedOptions = {},
): Promise<SimulatedMachine> {
  const fault: Fault = (call) => machine.fault(call)
  const { transport, trust } = await createSimulator({ platform, fault })
  const attesterOf = (previous?: MachineAttester) =>
    new MachineAttester({
      machine: probed,
      config: { deadline_ms, waiting },
      runtimeEventsFile: '/nowhere',
      observer: () => ({}),
      previous,
    })
  const fine: Fault = () => undefined
  const machine = { fault: fine }
  const probed = await probe('/', [], { transport })
  const attester = attesterOf()
  return Object.assign(machine, { attester, trust, reconfigured: () => attesterOf(attester) })
}
