import { join } from 'node:path'
import { errnoOf, messageOf } from '../../../src/errors.ts'
import { writeFileAtomic } from '../../../src/files/atomic-file.ts'
import { makeFolder } from '../../../src/files/make-folder.ts'
import { readTextFile } from '../../../src/files/text-file.ts'
import { ZosError } from '../zos-error.ts'
import type { ExitDevice } from './facts.ts'
import { type HostNetwork, MANAGEMENT } from './network.ts'
import type { Notes } from './notes.ts'
import type { Programs } from './programs.ts'

const MAX_BYTES = 4096
const HOOK_TIMEOUT_MS = 30_000

/** An interface name of the kernel: 1 to 15 bytes, no white space, `/` or `:` (dev_valid_name). */
const NAME = /^(?!\.{1,2}$)[!-.0-9;-~]{1,15}$/

export interface ExitNicOptions {
  readonly network: HostNetwork
  readonly programs: Programs
  readonly notes: Notes
  /** Where the choice is kept, in `exit-nic.json`; made when missing. */
  readonly stateFolder: string
  /** Program and arguments that rewire the machine; the chosen name is added. Default: none. */
  readonly hook?: readonly string[] | undefined
}

/**
 * Which NIC public traffic leaves by (spec §9.2): the management interface (`zos`) or a NIC of its
 * own. The choice is kept; what acts on it is the operator's hook.
 */
export class ExitNic {
  readonly #options: ExitNicOptions
  readonly #file: string
  #chosen = MANAGEMENT
  /** Choices are made one after the other. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(options: ExitNicOptions) {
    this.#options = options
    this.#file = join(options.stateFolder, 'exit-nic.json')
  }

  /** Loads the choice; never rejects: what is kept wrongly counts as none. */
  async load(): Promise<void> {
    try {
      const { device } = JSON.parse(await readTextFile(this.#file, MAX_BYTES))
      if (typeof device !== 'string' || !NAME.test(device)) throw new Error('it names no device')
      this.#chosen = device
    } catch (error) {
      const cause = error instanceof Error ? error.cause : undefined
      if (errnoOf(cause) === 'ENOENT') return
      const what = `Cannot take the public NIC from "${this.#file}", "${MANAGEMENT}" is used`
      this.#options.notes.once('exit-nic', `${what}: ${messageOf(error)}`)
    }
  }

  get(): ExitDevice {
    const dual = this.#chosen !== MANAGEMENT
    return { is_single: !dual, is_dual: dual, dual_interface: dual ? this.#chosen : '' }
  }

  /** @throws {ZosError} In the words of the reference; the old choice stays. */
  set(device: string): Promise<void> {
    const done = this.#last.then(() => this.#set(device))
    this.#last = done.catch(() => undefined)
    return done
  }

  async #set(device: string): Promise<void> {
    const chosen = await this.#check(device)
    const before = this.#chosen
    if (chosen === before) return
    await this.#runHook(chosen)
    try {
      makeFolder(this.#options.stateFolder, 0o700)
      await writeFileAtomic(this.#file, `${JSON.stringify({ device: chosen })}\n`)
    } catch (error) {
      // The machine goes back to what is still on disk, as far as it can.
      await this.#runHook(before).catch(() => undefined)
      throw failed(`Cannot keep "${device}" as the public NIC: ${messageOf(error)}`)
    }
    this.#chosen = chosen
  }

  /** What the choice of a device comes to: its name, or `zos`. */
  async #check(device: string): Promise<string> {
    const { network } = this.#options
    const management = await network.management()
    if (device === MANAGEMENT) return MANAGEMENT
    const nic = (await network.nics()).find(({ name }) => name === device)
    // It is everywhere, and in no list.
    if (!nic && device !== 'lo') throw failed('Link not found')
    if (!nic?.physical) {
      // A bridge of another name that does what `zos` does.
      if (device === management) return MANAGEMENT
      throw failed('invalid exit bridge must be a physical nic or the default bridge')
    }
    if (nic.enslaved || device === management) {
      throw failed(`device is '${device}' already used`)
    }
    return device
  }

  async #runHook(device: string): Promise<void> {
    const { hook, programs } = this.#options
    if (!hook || hook.length === 0) return
    const { problem } = await programs.run([...hook, device], { timeoutMs: HOOK_TIMEOUT_MS })
    if (problem !== undefined) throw failed(`Cannot make "${device}" the public NIC: ${problem}`)
  }
}

function failed(message: string): ZosError {
  return new ZosError('failed', message)
}
