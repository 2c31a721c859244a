import { open } from 'node:fs/promises'
import { join } from 'node:path'

/** Where distributions keep the PCI id database (pci.ids of the package pci.ids or hwdata). */
export const PCI_IDS = ['/usr/share/misc/pci.ids', '/usr/share/hwdata/pci.ids'] as const

/** Which device's names are wanted: four hex digits each. */
export interface PciNumbers {
  readonly vendor: string
  readonly device: string
  readonly subsystemVendor: string
  readonly subsystemDevice: string
}

export interface PciNames {
  readonly vendor: string
  /** The sub-system's name where it is known. */
  readonly device: string
}

/** The database is about 1.5 MB. */
const MAX_BYTES = 16 * 1024 * 1024

/** The database of the system; undefined where there is none. */
export async function readPciIds(root: string): Promise<string | undefined> {
  for (const path of PCI_IDS) {
    const file = await open(join(root, path), 'r').catch(() => undefined)
    if (!file) continue
    try {
      if ((await file.stat()).size > MAX_BYTES) continue
      return await file.readFile('utf8')
    } catch {
      // Unreadable, a folder: as good as none.
    } finally {
      await file.close()
    }
  }
  return undefined
}

/**
 * Names of devices in the text of a database: `vendor  name`, a tab and `device  name` below it, two
 * tabs and `subvendor subdevice  name` below that. Without the *device* both names are `unknown`
 * (spec zos §9.6).
 */
export function namesIn(text: string, wanted: readonly PciNumbers[]): readonly PciNames[] {
  const found = wanted.map(() => ({ vendor: 'unknown', device: 'unknown' }))
  let [vendor, vendorName, device] = ['', '', '']
  for (const line of lines(text)) {
    if (line.startsWith('\t\t')) {
      const [, subvendor, subdevice, name = ''] =
        /^\t\t([0-9a-f]{4}) ([0-9a-f]{4}) {2}(.*)$/.exec(line) ?? []
      each((numbers, names) => {
        if (numbers.vendor !== vendor || numbers.device !== device) return
        if (numbers.subsystemVendor !== subvendor || numbers.subsystemDevice !== subdevice) return
        names.device = name.trim()
      })
    } else if (line.startsWith('\t')) {
      const [, number = '', name = ''] = /^\t([0-9a-f]{4}) {2}(.*)$/.exec(line) ?? []
      device = number
      each((numbers, names) => {
        if (numbers.vendor !== vendor || numbers.device !== device) return
        names.vendor = vendorName
        names.device = name.trim()
      })
    } else if (/^[0-9a-f]{4} {2}/.test(line)) {
      vendor = line.slice(0, 4)
      vendorName = line.slice(6).trim()
      device = ''
    } else if (/^C /.test(line)) {
      // Classes follow the vendors.
      break
    }
  }
  return found

  function each(look: (numbers: PciNumbers, names: { vendor: string; device: string }) => void) {
    wanted.forEach((numbers, index) => {
      const names = found[index]
      if (names) look(numbers, names)
    })
  }
}

/** Without the cost of an array of them all. */
function* lines(text: string): Generator<string> {
  for (let start = 0; start < text.length; ) {
    const end = text.indexOf('\n', start)
    const stop = end === -1 ? text.length : end
    if (text.charCodeAt(start) !== 0x23) yield text.slice(start, stop).replace(/\r$/, '')
    start = stop + 1
  }
}
