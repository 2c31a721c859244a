import { ccelEntries } from '../attest/ccel.ts'
import type { EventLogEntry } from '../attest/event-log.ts'
import type { CoreConfig } from '../config/schema.ts'
import { within } from '../deadline.ts'
import type { CallOptions, NsmDevice, TdxDevice } from '../device/devices.ts'
import { readCloud } from '../device/dmi.ts'
import { Nsm } from '../device/nsm.ts'
import { CCEL_LOG } from '../device/paths.ts'
import type { Machine } from '../device/probe.ts'
import { DeviceQueue, type QueueObserver } from '../device/queue.ts'
import { understood } from '../device/report-data.ts'
import { Tdx } from '../device/tdx.ts'
import { ApiError } from '../errors.ts'
import type { Attester, Evidence, Platform, RuntimeEvents } from './attester.ts'
import { NO_ATTESTER } from './none.ts'
import { RuntimeEventLog, type RuntimeRegister } from './runtime-events.ts'

/** Quotes made for one piece of evidence, while events come in between. */
const ATTEMPTS = 3

/** What the machine is called is worth no longer wait. */
const CLOUD_TIMEOUT_MS = 1000

/** What an attester is made from. */
export interface AttesterParts {
  readonly machine: Machine
  readonly config: CoreConfig['attestation']
  /** Where the runtime events are kept; a simulated machine forgets them with its registers. */
  readonly runtimeEventsFile: string
  /** Told of every device call, by the device's name. */
  readonly observer: (device: string) => QueueObserver
  /** The attester of the same machine under another configuration, which takes its place. */
  readonly previous?: MachineAttester | undefined
}

/** The devices that probing proved, behind their queues. */
export class MachineAttester implements Attester {
  readonly platform: Platform | undefined
  readonly simulated: boolean
  readonly tdx: Tdx | undefined
  readonly nsm: NsmDevice | undefined
  readonly #machine: Machine
  readonly #runtimeEvents: RuntimeEventLog
  readonly #runtimeEventsFile: string | undefined
  #bootEntries: Promise<readonly EventLogEntry[]> | undefined
  #cloud: ReturnType<Attester['cloud']> | undefined

  constructor({ machine, config, runtimeEventsFile, observer, previous }: AttesterParts) {
    this.#machine = machine
    this.simulated = machine.transport.kind === 'simulated'
    const limits = { waiting: config.waiting, deadlineMs: config.deadline_ms }
    if (machine.tdx) {
      const options = { facts: machine.tdx, tsmEntry: config.tsm_entry, ...limits }
      this.tdx = new Tdx(machine.transport, {
        ...options,
        observer: (queue) => observer(`tdx_${queue}`),
      })
    }
    if (machine.has('nsm')) {
      const queue = new DeviceQueue({ device: 'the NSM', ...limits, observer: observer('nsm') })
      this.nsm = new Nsm(machine.transport, (work, options) => queue.run(work, options))
    }
    this.platform = this.tdx ? 'tdx' : this.nsm ? 'nitro' : undefined
    this.#runtimeEventsFile = this.simulated ? undefined : runtimeEventsFile
    const register = runtimeRegister(this.tdx)
    const kept = this.#logOf(previous)
    kept?.reach(register)
    this.#runtimeEvents = kept ?? new RuntimeEventLog(register, this.#runtimeEventsFile)
  }

  get runtimeEvents(): RuntimeEvents {
    return this.#runtimeEvents
  }

  /** Its log, where that is of the same register: two logs would not know of each other. */
  #logOf(previous: MachineAttester | undefined): RuntimeEventLog | undefined {
    const file = this.#runtimeEventsFile
    if (!previous || previous.#runtimeEventsFile !== file) return undefined
    const isSame = file !== undefined || previous.#machine.transport === this.#machine.transport
    return isSame ? previous.#runtimeEvents : undefined
  }

  async evidence(reportData: Uint8Array, options?: CallOptions): Promise<Evidence> {
    if (this.tdx) return this.#quoteAndLog(this.tdx, reportData, options)
    if (this.nsm) {
      const document = await this.nsm.attest({ userData: reportData }, options)
      return { platform: 'nitro', document, reportData }
    }
    return NO_ATTESTER.evidence(reportData)
  }

  /** A log that replays to the quote: none of its events may have come while that was made. */
  async #quoteAndLog(
    tdx: TdxDevice,
    reportData: Uint8Array,
    options: CallOptions | undefined,
  ): Promise<Evidence> {
    let eventLog = await this.eventLog()
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const quote = await tdx.quote(reportData, options)
      const before = eventLog.length
      eventLog = await this.eventLog()
      if (eventLog.length === before) return { platform: 'tdx', quote, eventLog, reportData }
    }
    const why = `Cannot make evidence: events were measured during each of ${ATTEMPTS} quotes`
    throw new ApiError(503, 'EVENTS_UNSTEADY', why, { headers: { 'retry-after': '1' } })
  }

  cloud(): ReturnType<Attester['cloud']> {
    const unknown = { vendor: '', product: '' }
    this.#cloud ??= within(CLOUD_TIMEOUT_MS, readCloud(this.#machine.transport), 'answer').catch(
      () => unknown,
    )
    return this.#cloud
  }

  async eventLog(): Promise<readonly EventLogEntry[]> {
    if (!this.tdx) return []
    this.#bootEntries ??= readBootEntries(this.tdx).catch((error) => {
      this.#bootEntries = undefined
      throw error
    })
    return [...(await this.#bootEntries), ...(await this.runtimeEvents.list())]
  }
}

/** The boot's log never changes while the machine runs. */
async function readBootEntries(tdx: TdxDevice): Promise<readonly EventLogEntry[]> {
  const log = await tdx.bootLog()
  return log === undefined ? [] : understood(() => ccelEntries(log), 'read', CCEL_LOG)
}

function runtimeRegister(tdx: TdxDevice | undefined): RuntimeRegister {
  const unsupported = !tdx
    ? 'this machine has no register that software can extend and evidence shows'
    : tdx.canExtend
      ? undefined
      : 'the kernel shows no measurement registers, Linux 6.16 or later does'
  return {
    unsupported,
    extend: async (digest, options) => {
      await tdx?.extend(3, digest, options)
    },
    read: async () => (tdx ? (await tdx.registers()).rtmr[3] : new Uint8Array(48)),
  }
}
