import { TSM_REPORT } from '../../src/device/paths.ts'
import type { Transport } from '../../src/device/transport.ts'
import { type DeviceCall, type Fault, SimulatedTransport } from '../../src/simulate/machine.ts'
import { expectFolder, type Folder, find } from '../../src/simulate/nodes.ts'
import { tdxMachine } from '../../src/simulate/tdx-machine.ts'
import { createTdxPki } from '../../src/simulate/tdx-pki.ts'
import { createQuotingEnclave } from '../../src/simulate/tdx-quote.ts'

const signQuote = createQuotingEnclave(createTdxPki(Date.now()))

/** The simulated TDX guest, with its calls on record and its bad days in the test's hands. */
export class TdxGuest {
  readonly transport: Transport
  readonly calls: DeviceCall[] = []
  /** May be exchanged at any time. */
  fault: Fault
  readonly #root: Folder

  constructor(fault: Fault = () => undefined) {
    this.fault = fault
    this.#root = tdxMachine(signQuote)
    this.transport = new SimulatedTransport(this.#root, (call) => {
      this.calls.push(call)
      return this.fault(call)
    })
  }

  /** What was asked for: `read outblob`, `mkdir cvmd-7-1`. */
  get steps(): string[] {
    return this.calls.map(stepOf)
  }

  /** Names of the report entries that are there. */
  get entries(): string[] {
    return [...expectFolder(find(this.#root, TSM_REPORT)).entries.keys()]
  }

  /** What other software of the guest does: makes an entry. */
  makeEntry(name: string): void {
    expectFolder(find(this.#root, TSM_REPORT)).make?.(name)
  }

  /** What other software of the guest does: writes report data into every entry. */
  meddle(): void {
    for (const name of this.entries) {
      const inblob = find(this.#root, `${TSM_REPORT}/${name}/inblob`)
      if (inblob.kind === 'file') inblob.write?.(new Uint8Array(64))
    }
  }
}

/** A call in short: the operation and the last part of the path. */
export function stepOf({ operation, path }: DeviceCall): string {
  return `${operation} ${path.slice(path.lastIndexOf('/') + 1)}`
}

/** A fault at calls whose step begins so: each time, or the first `times` times. */
export function at(
  step: string,
  answer: Awaited<ReturnType<Fault>>,
  times = Number.POSITIVE_INFINITY,
): Fault {
  let left = times
  return (call) => (stepOf(call).startsWith(step) && left-- > 0 ? answer : undefined)
}
