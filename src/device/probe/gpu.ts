import { PCI_DEVICES } from '../paths.ts'
import type { Transport } from '../transport.ts'
import { explained, type Finding } from './finding.ts'

const NODES = ['/dev/nvidiactl', '/dev/kfd', '/dev/dri/renderD128'] as const
/** Display controllers (PCI Code and ID Assignment, base class 03h). */
const DISPLAY = '0x03'
const MAX_CLASS_BYTES = 4096
const NO_GPU = 'pass a GPU through to this machine'

/** A GPU is there when its driver has made its node, or when PCI shows a display controller. */
export async function probeGpu(transport: Transport): Promise<Finding> {
  for (const path of NODES) {
    const there = await transport.stat(path).catch(() => undefined)
    if (there) return { path, tried: 'stat', state: 'present', meaning: `${path} is there` }
  }
  const at = { path: PCI_DEVICES, tried: 'read class of each slot' }
  try {
    for (const slot of await transport.list(PCI_DEVICES)) {
      const path = `${PCI_DEVICES}/${slot}`
      const bytes = await transport.read(`${path}/class`, MAX_CLASS_BYTES).catch(() => undefined)
      if (!new TextDecoder().decode(bytes).startsWith(DISPLAY)) continue
      return { ...at, path, state: 'present', meaning: `PCI display device ${slot}` }
    }
  } catch (error) {
    return explained(error, { ...at, absent: NO_GPU })
  }
  const meaning = 'no PCI device of class 0x03 and no GPU device node'
  return { ...at, state: 'absent', meaning, remedy: NO_GPU }
}
