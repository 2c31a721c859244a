import { bootEvents, writeBootLog, writeCcelTable } from './boot-log.ts'
import { classFolder } from './dmi.ts'
import {
  type Attribute,
  type CharacterDevice,
  Errno,
  type Folder,
  folder,
  readOnly,
} from './nodes.ts'
import { reportFolder } from './report-folder.ts'
import type { SignQuote } from './tdx-quote.ts'
import { type RtmrIndex, TrustDomain, type TrustDomainOptions } from './trust-domain.ts'

const REGISTER_BYTES = 48

/**
 * The files of a TDX guest on a kernel that has all of them (Linux 6.16 or later), after a boot
 * whose log replays to RTMR0, RTMR1 and RTMR2.
 */
export function tdxMachine(signQuote: SignQuote, options: TrustDomainOptions = {}): Folder {
  const domain = new TrustDomain(options)
  const events = bootEvents()
  for (const { register, digest } of events) domain.extend((register - 1) as RtmrIndex, digest)
  const log = writeBootLog(events)
  return folder({
    dev: folder({ tdx_guest: tdxGuest(domain) }),
    sys: folder({
      class: classFolder(),
      kernel: folder({
        config: folder({
          tsm: folder({ report: reportFolder((data) => signQuote(domain.report(data))) }),
        }),
      }),
      devices: folder({
        virtual: folder({
          misc: folder({ tdx_guest: folder({ measurements: measurements(domain) }) }),
        }),
      }),
      firmware: folder({
        acpi: folder({
          tables: folder({
            CCEL: readOnly(writeCcelTable),
            data: folder({ CCEL: readOnly(() => log) }),
          }),
        }),
      }),
    }),
  })
}

/** /dev/tdx_guest (spec tdx §2). */
function tdxGuest(domain: TrustDomain): CharacterDevice {
  return {
    kind: 'character-device',
    ioctl: (operation, input) => {
      if (operation !== 'tdreport') throw new Errno('ENOTTY')
      if (input.byteLength !== 64) throw new Errno('EINVAL')
      return domain.report(input)
    },
  }
}

/** The measurement files (spec tdx §4). */
function measurements(domain: TrustDomain): Folder {
  return folder({
    'mrtd:sha384': readOnly(() => domain.mrtd),
    mrconfigid: readOnly(() => domain.mrConfigId),
    mrowner: readOnly(() => domain.mrOwner),
    mrownerconfig: readOnly(() => domain.mrOwnerConfig),
    'rtmr0:sha384': rtmr(domain, 0),
    'rtmr1:sha384': rtmr(domain, 1),
    'rtmr2:sha384': rtmr(domain, 2),
    'rtmr3:sha384': rtmr(domain, 3),
  })
}

function rtmr(domain: TrustDomain, index: RtmrIndex): Attribute {
  return {
    kind: 'file',
    read: () => domain.rtmr(index),
    write: (bytes) => {
      if (bytes.byteLength === 0) return
      if (bytes.byteLength < REGISTER_BYTES) throw new Errno('EINVAL')
      // The kernel takes as much of the first write as fits, and refuses the rest too late.
      domain.extend(index, bytes.subarray(0, REGISTER_BYTES))
      if (bytes.byteLength > REGISTER_BYTES) throw new Errno('EFBIG')
    },
  }
}
