import { ZosError } from '../zos-error.ts'
import { MAX_DMI_CHARACTERS, parseDmi } from './dmi.ts'
import { readSysfsDmi } from './dmi-sysfs.ts'
import type { Dmi } from './facts.ts'
import type { HostFiles } from './host-files.ts'
import type { Notes } from './notes.ts'
import type { Programs } from './programs.ts'

/**
 * DMI of the machine, from dmidecode(8), else from the kernel's own files (spec §9.4).
 *
 * @param strict Fail as the reference does where dmidecode does, or writes what is not understood.
 * @throws {ZosError} `failed`; without `strict` only for a table of unusual size.
 */
export async function readDmi(
  { programs, files, notes }: { programs: Programs; files: HostFiles; notes: Notes },
  strict: boolean,
): Promise<Dmi> {
  const { stdout, problem } = await programs.run(['dmidecode'], {
    maxOutputBytes: MAX_DMI_CHARACTERS,
  })
  if (problem === undefined && stdout !== undefined) {
    const dmi = parseDmi(stdout, { strict })
    // It may find no table and call that a success.
    if (strict || dmi.sections.length > 0) return dmi
  } else if (strict) {
    throw new ZosError('failed', `Cannot read DMI: ${problem}`)
  }
  const why = problem ?? '"dmidecode" found nothing'
  notes.once('dmi', `DMI is read from /sys/class/dmi/id, types 0 to 3 only: ${why}`)
  return readSysfsDmi(files)
}
