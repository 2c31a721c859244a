import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** One PCI device as sysfs shows it; what is left out is not there. */
export interface PciDevice {
  readonly slot: string
  /** As the kernel writes them: `0x030000`. */
  readonly class: string
  readonly vendor: string
  readonly device: string
  readonly subsystem_vendor?: string
  readonly subsystem_device?: string
  readonly driver?: string
  /** Sizes of its memory windows, bytes. */
  readonly windows?: readonly number[]
  /** Further files by their names. */
  readonly files?: Readonly<Record<string, string>>
}

/** Writes devices below a root that stands for `/`. */
export function writePciTree(root: string, devices: readonly PciDevice[]): void {
  for (const device of devices) {
    const { slot, driver, windows = [], files = {}, ...numbers } = device
    const folder = join(root, 'sys/bus/pci/devices', slot)
    let start = 0x1_0000_0000n
    const resources = [
      // An I/O port, which is no memory.
      '0x000000000000e000 0x000000000000e07f 0x0000000000040101',
      ...windows.map((size) => {
        const line = `${hex(start)} ${hex(start + BigInt(size) - 1n)} 0x000000000014220c`
        start *= 16n
        return line
      }),
      `${hex(0n)} ${hex(0n)} ${hex(0n)}`,
    ]
    const all: Record<string, string> = {
      ...numbers,
      resource: resources.join('\n'),
      uevent: `${driver ? `DRIVER=${driver}\n` : ''}PCI_SLOT_NAME=${slot}`,
      ...files,
    }
    for (const [name, text] of Object.entries(all)) {
      const path = join(folder, name)
      mkdirSync(join(path, '..'), { recursive: true })
      writeFileSync(path, `${text}\n`)
    }
  }
}

function hex(value: bigint): string {
  return `0x${value.toString(16).padStart(16, '0')}`
}

/** A few lines in the form of the PCI id database. */
export const SMALL_PCI_IDS = `#
#\tList of PCI ID's
1002  Advanced Micro Devices, Inc. [AMD/ATI]
\t731f  Navi 10 [Radeon RX 5600 OEM/5600 XT / 5700/5700 XT]
\t\t1da2 e411  Radeon RX 5600 XT
\t740f  Aldebaran/MI200 [Instinct MI210]
10de  NVIDIA Corporation
\t1e30  TU102GL [Quadro RTX 6000/8000]
\t\t10de 129e  Quadro RTX 8000
\t\t10de 12ba  Quadro RTX 6000
\t2330  GH100 [H100 SXM5 80GB]
8086  Intel Corporation
\t3e9b  CoffeeLake-H GT2 [UHD Graphics 630]
ffff  Illegal Vendor ID
C 03  Display controller
\t00  VGA compatible controller
`

export function writePciIds(root: string, text = SMALL_PCI_IDS): void {
  mkdirSync(join(root, 'usr/share/misc'), { recursive: true })
  writeFileSync(join(root, 'usr/share/misc/pci.ids'), text)
}
