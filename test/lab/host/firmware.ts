import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bootEvents, writeBootLog, writeCcelTable } from '../../../src/simulate/boot-log.ts'

/** Where the boot log lies in the guest's memory: free for sure, and kept from the kernel. */
const LOG_ADDRESS = 0x4000_0000

/** Offset of the log's address in the table (spec tdx §7). */
const ADDRESS_OFFSET = 48

/** What QEMU and the kernel have to be told for the guest to find a boot log. */
export interface Firmware {
  readonly qemu: readonly string[]
  readonly kernel: string
}

/**
 * Puts the simulator's boot log into `folder` as firmware would: an ACPI table that points to an
 * area of memory, so that the kernel's own code serves both below /sys/firmware/acpi/tables.
 */
export function writeFirmware(folder: string): Firmware {
  const log = writeBootLog(bootEvents())
  const table = Buffer.from(writeCcelTable())
  table.writeBigUInt64LE(BigInt(LOG_ADDRESS), ADDRESS_OFFSET)
  const files = { table: join(folder, 'ccel.aml'), log: join(folder, 'ccel.log') }
  // QEMU mends the checksum.
  writeFileSync(files.table, table)
  writeFileSync(files.log, log)
  return {
    qemu: [
      ...['-acpitable', `file=${files.table}`],
      ...['-device', `loader,file=${files.log},addr=${LOG_ADDRESS},force-raw=on`],
    ],
    kernel: `memmap=${log.byteLength}$${LOG_ADDRESS}`,
  }
}
