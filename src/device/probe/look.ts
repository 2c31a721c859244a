import type { NoNative } from '../choose-transport.ts'
import type { Transport } from '../transport.ts'

/** What every probe looks with. */
export interface Look {
  /** Folder that stands for `/`. */
  readonly root: string
  readonly transport: Transport
  readonly noNative?: NoNative | undefined
  /** Whether a folder stands for the machine: its files are taken for the devices they name. */
  readonly stands: boolean
}
