import { TSM_REPORT } from '../device/paths.ts'
import { DeviceError, type FileKind, type Transport } from '../device/transport.ts'
import { Errno, expectFolder, type Folder, find, findParent } from './nodes.ts'
import { Turns } from './turns.ts'

/** A call as a {@link Fault} sees it. */
export interface DeviceCall {
  readonly operation: 'stat' | 'list' | 'read' | 'write' | 'mkdir' | 'rmdir' | 'ioctl' | 'lock'
  readonly path: string
  /** What is written, or given to an ioctl. */
  readonly input?: Uint8Array
}

/**
 * Decides about each call before it is made, so that tests can have what a machine does on its
 * bad days. It answers with an errno to fail with; with bytes to give in place of what a read or
 * an ioctl would; with `hang` to never end; or with nothing, to let it through. A promise makes
 * the call wait, and with it all that wait for the same lock of the kernel.
 */
export type Fault = (call: DeviceCall) => FaultAnswer | undefined | Promise<FaultAnswer | undefined>

export type FaultAnswer = `E${string}` | 'hang' | Uint8Array

/**
 * A machine in memory: files with the kernel's behaviour, reached as real ones are. Bytes are
 * copied on their way in and out, as from one address space to another.
 */
export class SimulatedTransport implements Transport {
  readonly kind = 'simulated'
  readonly #root: Folder
  readonly #fault: Fault
  readonly #locks = new Map<string, Turns>()

  /** @param root See `tdx-machine.ts` and `nitro-machine.ts`. */
  constructor(root: Folder, fault: Fault = () => undefined) {
    this.#root = root
    this.#fault = fault
  }

  stat(path: string): Promise<FileKind> {
    return this.#call({ operation: 'stat', path }, () => find(this.#root, path).kind)
  }

  list(path: string): Promise<readonly string[]> {
    return this.#call({ operation: 'list', path }, () =>
      [...expectFolder(find(this.#root, path)).entries.keys()].sort(),
    )
  }

  read(path: string, maxBytes: number): Promise<Uint8Array> {
    return this.#call({ operation: 'read', path }, (instead) => {
      const bytes = instead ?? this.#attribute(path, 'read')()
      if (bytes.byteLength > maxBytes) throw new Errno('EFBIG')
      return new Uint8Array(bytes)
    })
  }

  write(path: string, bytes: Uint8Array): Promise<void> {
    const input = new Uint8Array(bytes)
    return this.#call({ operation: 'write', path, input }, () =>
      this.#attribute(path, 'write')(input),
    )
  }

  mkdir(path: string): Promise<void> {
    return this.#call({ operation: 'mkdir', path }, () => {
      const [parent, name] = findParent(this.#root, path)
      if (parent.entries.has(name)) throw new Errno('EEXIST')
      if (parent.make === undefined) throw new Errno('EPERM')
      parent.make(name)
    })
  }

  rmdir(path: string): Promise<void> {
    return this.#call({ operation: 'rmdir', path }, () => {
      expectFolder(find(this.#root, path))
      const [parent, name] = findParent(this.#root, path)
      if (parent.remove === undefined) throw new Errno('EPERM')
      parent.remove(name)
    })
  }

  ioctl(path: string, operation: 'tdreport' | 'nsm', bytes: Uint8Array): Promise<Uint8Array> {
    const input = new Uint8Array(bytes)
    return this.#call({ operation: 'ioctl', path, input }, (instead) => {
      const node = find(this.#root, path)
      if (node.kind !== 'character-device') throw new Errno('ENOTTY')
      return new Uint8Array(instead ?? node.ioctl(operation, input))
    })
  }

  async lock(path: string): Promise<() => Promise<void>> {
    await this.#call({ operation: 'lock', path }, () => this.#attribute(path, 'write'))
    const release = await this.#take(`flock ${path}`)
    return async () => release()
  }

  /** What an open file is read or written by. */
  #attribute<M extends 'read' | 'write'>(path: string, mode: M) {
    const node = find(this.#root, path)
    if (node.kind === 'directory') throw new Errno('EISDIR')
    // Both devices are for ioctl alone.
    if (node.kind === 'character-device') throw new Errno('EINVAL')
    const act = node[mode]
    if (act === undefined) throw new Errno('EACCES')
    return act
  }

  async #call<T>(call: DeviceCall, act: (instead: Uint8Array | undefined) => T): Promise<T> {
    const lock = kernelLock(call)
    const release = lock === undefined ? undefined : await this.#take(lock)
    try {
      const fault = await this.#fault(call)
      if (fault === 'hang') return await new Promise<never>(() => {})
      if (typeof fault === 'string') throw new Errno(fault)
      return act(fault)
    } catch (error) {
      if (!(error instanceof Errno)) throw error
      throw new DeviceError(error.code, call.operation, call.path)
    } finally {
      release?.()
    }
  }

  #take(lock: string): Promise<() => void> {
    const turns = this.#locks.get(lock) ?? new Turns()
    this.#locks.set(lock, turns)
    return turns.take()
  }
}

/**
 * Which lock of the kernel a call holds while it runs: one for all report entries, so that a
 * quote in the making blocks whoever reads a generation (spec tdx §3), and one for each device.
 */
function kernelLock({ operation, path }: DeviceCall): string | undefined {
  if (operation === 'ioctl') return path
  const reports = path.startsWith(`${TSM_REPORT}/`)
  return reports && ['read', 'write', 'mkdir'].includes(operation) ? TSM_REPORT : undefined
}
