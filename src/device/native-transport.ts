import { errnoOf } from '../errors.ts'
import { DeviceError, type FileKind, type Transport } from './transport.ts'

/**
 * The functions of `native/device.c`. Each promise is rejected with an Error whose `code` is the
 * errno's name and whose message says more when there is more to say; arguments of a wrong type or
 * length throw a TypeError at once.
 */
export interface Addon {
  stat(path: string): Promise<FileKind>
  list(path: string): Promise<string[]>
  /** @param maxBytes At most 16 MiB. */
  read(path: string, maxBytes: number): Promise<Uint8Array>
  /** @param bytes At most 4096. */
  write(path: string, bytes: Uint8Array): Promise<void>
  mkdir(path: string): Promise<void>
  rmdir(path: string): Promise<void>
  /** 64 bytes in, 1024 out. */
  tdreport(path: string, input: Uint8Array): Promise<Uint8Array>
  /** 1 to 4096 bytes in, at most 12288 out. */
  nsm(path: string, input: Uint8Array): Promise<Uint8Array>
  /** @returns What `unlock` takes. */
  lock(path: string): Promise<number>
  unlock(path: string, lock: number): Promise<void>
  /** The user and group who connected to a Unix socket, at once; throws an Error with a `code`. */
  peer(fd: number): [uid: number, gid: number]
}

/**
 * How long a call may keep the process alive, in milliseconds: more than any deadline of a device
 * call, so that an answer in time is heard, and an end, so that a device that never answers does
 * not keep a finished program from exiting.
 */
const HOLD_MS = 15_000

/** System calls by the native addon: each device on its own thread, only paths of its own list. */
export class NativeTransport implements Transport {
  readonly kind = 'native'
  readonly #addon: Addon

  constructor(addon: Addon) {
    this.#addon = addon
  }

  stat(path: string): Promise<FileKind> {
    return call('stat', path, () => this.#addon.stat(path))
  }

  async list(path: string): Promise<readonly string[]> {
    const names = await call('list', path, () => this.#addon.list(path))
    return names.sort()
  }

  read(path: string, maxBytes: number): Promise<Uint8Array> {
    return call('read', path, () => this.#addon.read(path, maxBytes))
  }

  write(path: string, bytes: Uint8Array): Promise<void> {
    return call('write', path, () => this.#addon.write(path, bytes))
  }

  mkdir(path: string): Promise<void> {
    return call('mkdir', path, () => this.#addon.mkdir(path))
  }

  rmdir(path: string): Promise<void> {
    return call('rmdir', path, () => this.#addon.rmdir(path))
  }

  ioctl(path: string, operation: 'tdreport' | 'nsm', input: Uint8Array): Promise<Uint8Array> {
    return call('ioctl', path, () => this.#addon[operation](path, input))
  }

  async lock(path: string): Promise<() => Promise<void>> {
    const lock = await call('lock', path, () => this.#addon.lock(path))
    let released: Promise<void> | undefined
    return () => {
      released ??= call('unlock', path, () => this.#addon.unlock(path, lock))
      return released
    }
  }
}

async function call<T>(operation: string, path: string, run: () => Promise<T>): Promise<T> {
  const hold = setTimeout(() => {}, HOLD_MS)
  try {
    return await run()
  } catch (error) {
    throw deviceError(error, operation, path)
  } finally {
    clearTimeout(hold)
  }
}

function deviceError(error: unknown, operation: string, path: string): DeviceError {
  const message = error instanceof Error ? error.message : String(error)
  const code = error instanceof TypeError ? 'EINVAL' : (errnoOf(error) ?? 'EIO')
  return new DeviceError(code, operation, path, {
    cause: error,
    ...(message !== code && { detail: message }),
  })
}
