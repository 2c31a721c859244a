import { FileTransport } from './file-transport.ts'
import { loadNative } from './native.ts'
import type { Transport } from './transport.ts'

/** Why the native addon is not used. */
export interface NoNative {
  readonly reason: string
  readonly remedy?: string
}

/** A way to the devices, and why it is not the native one. */
export interface ChosenTransport {
  readonly transport: Transport
  readonly noNative?: NoNative
}

/** The native addon where it loads; plain file calls otherwise, and always below another root. */
export function chooseTransport(root: string): ChosenTransport {
  if (root !== '/') {
    const noNative = { reason: `the folder "${root}" stands for the machine` }
    return { transport: new FileTransport(root), noNative }
  }
  const native = loadNative()
  if ('transport' in native) return native
  return { transport: new FileTransport(root), noNative: native }
}
