import { classFolder } from './dmi.ts'
import { Errno, type Folder, folder } from './nodes.ts'
import type { NsmEngine } from './nsm-engine.ts'

const MAX_REQUEST_BYTES = 4096

/** A Nitro enclave: /dev/nsm as its driver has it (spec nitro §1). */
export function nitroMachine(engine: NsmEngine): Folder {
  const ioctl = (operation: 'tdreport' | 'nsm', input: Uint8Array) => {
    // The driver says so, not ENOTTY.
    if (operation !== 'nsm' || input.byteLength === 0) throw new Errno('EINVAL')
    if (input.byteLength > MAX_REQUEST_BYTES) throw new Errno('EMSGSIZE')
    return engine.answer(input)
  }
  return folder({
    dev: folder({ nsm: { kind: 'character-device', ioctl } }),
    sys: folder({ class: classFolder() }),
  })
}
