import { createHash } from 'node:crypto'
import { u16, u32 } from './bytes.ts'
import { markedHash } from './marks.ts'

/** One measured event of a boot (spec tdx §7). */
export interface BootEvent {
  /** As in the log: 1 to 3 for RTMR0 to RTMR2. */
  readonly register: 1 | 2 | 3
  /** TCG event type. */
  readonly type: number
  /** SHA-384, 48 bytes. */
  readonly digest: Uint8Array
  readonly data: Uint8Array
}

/** TCG PC Client Platform Firmware Profile §10.4.1. */
const EV_NO_ACTION = 0x3
const EV_SEPARATOR = 0x4
const EV_EVENT_TAG = 0x6
const EV_PLATFORM_CONFIG_FLAGS = 0xa
const EV_EFI_VARIABLE_DRIVER_CONFIG = 0x8000_0001
const EV_EFI_BOOT_SERVICES_APPLICATION = 0x8000_0003
const EV_EFI_ACTION = 0x8000_0007
const EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000_000a

const SHA384 = 0x000c
const LOG_AREA_BYTES = 65_536
/** Tags that Linux gives to what its EFI stub measures. */
const LOAD_OPTIONS_TAG = 0x8f3b_22ed
const INITRD_TAG = 0x8f3b_22ec
/** EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c. */
const GLOBAL_VARIABLE = Buffer.from('61dfe48bca93d211aa0d00e098032b8c', 'hex')

const FIRMWARE = Buffer.from('cvmd simulator firmware')
const COMMAND_LINE = 'console=ttyS0 cvmd.simulate=1'

/** What the simulated firmware and kernel measured, in order. */
export function bootEvents(): BootEvent[] {
  const separator = Buffer.alloc(4)
  const firmware = Buffer.concat([Uint8Array.of(FIRMWARE.length), FIRMWARE, Buffer.alloc(16)])
  const loadOptions = sha384(Buffer.from(`${COMMAND_LINE}\0`, 'utf16le'))
  return [
    marked(1, EV_EFI_PLATFORM_FIRMWARE_BLOB2, 'firmware', firmware),
    measured(1, EV_EFI_VARIABLE_DRIVER_CONFIG, emptyVariable('SecureBoot')),
    measured(1, EV_EFI_VARIABLE_DRIVER_CONFIG, emptyVariable('PK')),
    measured(1, EV_EFI_VARIABLE_DRIVER_CONFIG, emptyVariable('KEK')),
    measured(1, EV_SEPARATOR, separator),
    // By this type and payload others find the three ACPI entries (spec dstack §6.3).
    marked(1, EV_PLATFORM_CONFIG_FLAGS, 'acpi loader', Buffer.from('ACPI DATA')),
    marked(1, EV_PLATFORM_CONFIG_FLAGS, 'acpi rsdp', Buffer.from('ACPI DATA')),
    marked(1, EV_PLATFORM_CONFIG_FLAGS, 'acpi tables', Buffer.from('ACPI DATA')),
    marked(2, EV_EFI_BOOT_SERVICES_APPLICATION, 'kernel', Buffer.alloc(32)),
    measured(2, EV_EFI_ACTION, Buffer.from('Calling EFI Application from Boot Option')),
    measured(2, EV_SEPARATOR, separator),
    measured(3, EV_EVENT_TAG, tagged(LOAD_OPTIONS_TAG, 'LOADED_IMAGE::LoadOptions'), loadOptions),
    marked(3, EV_EVENT_TAG, 'initrd', tagged(INITRD_TAG, 'Linux initrd')),
    measured(2, EV_EFI_ACTION, Buffer.from('Exit Boot Services Invocation')),
    measured(2, EV_EFI_ACTION, Buffer.from('Exit Boot Services Returned with Success')),
  ]
}

/** An event whose measured content does not exist; only its name is hashed. */
function marked(
  register: BootEvent['register'],
  type: number,
  name: string,
  data: Uint8Array,
): BootEvent {
  return measured(register, type, data, markedHash('sha384', name))
}

/** Without a digest, what is measured is the data. */
function measured(
  register: BootEvent['register'],
  type: number,
  data: Uint8Array,
  digest: Uint8Array = sha384(data),
): BootEvent {
  return { register, type, digest, data }
}

/** UEFI_VARIABLE_DATA of a variable without content: vendor, two 64-bit lengths, the name. */
function emptyVariable(name: string): Uint8Array {
  const lengths = Buffer.alloc(16)
  lengths.writeUInt32LE(name.length)
  return Buffer.concat([GLOBAL_VARIABLE, lengths, Buffer.from(name, 'utf16le')])
}

/** TCG_PCClientTaggedEvent: identifier, length, the name with its NUL. */
function tagged(tag: number, name: string): Uint8Array {
  const text = Buffer.from(`${name}\0`)
  return Buffer.concat([u32(tag), u32(text.byteLength), text])
}

/** The log area: a record that names the format, the events, 0xff to the end. */
export function writeBootLog(events: readonly BootEvent[], length = LOG_AREA_BYTES): Uint8Array {
  const area = Buffer.alloc(length, 0xff)
  const records = events.map(({ register, type, digest, data }) =>
    Buffer.concat([
      ...[u32(register), u32(type), u32(1), u16(SHA384), digest],
      ...[u32(data.byteLength), data],
    ]),
  )
  area.set(Buffer.concat([specId(), ...records]))
  return area
}

/** The first record, in the old layout with a SHA-1 digest that is not used (TCG profile §10.4.5). */
function specId(): Uint8Array {
  const platformClass = u32(0)
  const version = Uint8Array.of(0, 2, 0, 2) // minor, major, errata, 64-bit integers
  const algorithms = Buffer.concat([u32(1), u16(SHA384), u16(48)])
  const noVendorInfo = Uint8Array.of(0)
  const data = Buffer.concat([
    Buffer.from('Spec ID Event03\0'),
    ...[platformClass, version, algorithms, noVendorInfo],
  ])
  return Buffer.concat([
    ...[u32(1), u32(EV_NO_ACTION), Buffer.alloc(20)],
    ...[u32(data.byteLength), data],
  ])
}

/** The CCEL ACPI table, 56 bytes, whose octets add up to zero. */
export function writeCcelTable(): Uint8Array {
  const table = Buffer.alloc(56)
  table.write('CCEL', 0)
  table.writeUInt32LE(table.byteLength, 4)
  table.writeUInt8(1, 8) // revision
  table.write('CVMD  ', 10) // OEM
  table.write('SIMULATE', 16) // OEM table
  table.write('CVMD', 28) // creator
  table.writeUInt8(2, 36) // TDX
  table.writeUInt32LE(LOG_AREA_BYTES, 40)
  table.writeUInt8(-table.reduce((sum, octet) => sum + octet, 0) & 0xff, 9)
  return table
}

const sha384 = (data: Uint8Array): Uint8Array => createHash('sha384').update(data).digest()
