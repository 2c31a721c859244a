/** A file in the root folder of an image. */
export interface FatFile {
  /** 1 to 64 ASCII characters. */
  readonly name: string
  readonly content: Uint8Array
}

const SECTOR = 512
const SECTORS_PER_CLUSTER = 4
const CLUSTER = SECTOR * SECTORS_PER_CLUSTER
const SECTORS = 8192
const RESERVED = 1
const FATS = 2
const SECTORS_PER_FAT = 7
const ROOT_ENTRIES = 128
const ENTRY = 32
const FIRST_DATA = RESERVED + FATS * SECTORS_PER_FAT + (ROOT_ENTRIES * ENTRY) / SECTOR
const CLUSTERS = Math.floor((SECTORS - FIRST_DATA) / SECTORS_PER_CLUSTER)

/** Bytes of an image. */
export const FAT_IMAGE_BYTES = SECTORS * SECTOR
/** Bytes that fit, each file rounded up to 2 KiB. */
export const FAT_CAPACITY = CLUSTERS * CLUSTER

/** 2026-01-01, for all files: the image of the same files is the same. */
const DATE = ((2026 - 1980) << 9) | (1 << 5) | 1

/**
 * A disk of 4 MiB without partitions, FAT12 with long names, as cloud-init reads it (Microsoft,
 * "FAT: General Overview of On-Disk Format", 1.03).
 *
 * @param label At most 11 characters.
 * @throws {RangeError} When the files do not fit.
 */
export function fatImage(label: string, files: readonly FatFile[]): Uint8Array {
  const image = new Uint8Array(FAT_IMAGE_BYTES)
  writeBootSector(image, label)
  const fat = new Uint8Array(SECTORS_PER_FAT * SECTOR)
  // Media type, and the end of a chain.
  setEntry(fat, 0, 0xff8)
  setEntry(fat, 1, 0xfff)
  const root: Uint8Array[] = [shortEntry(padded(label, 11), 0x08, 0, 0)]
  let next = 2
  files.forEach(({ name, content }, index) => {
    const count = Math.ceil(content.length / CLUSTER)
    if (next + count > CLUSTERS + 2)
      throw new RangeError(`the files are above ${FAT_CAPACITY} bytes`)
    for (let at = 0; at < count; at++)
      setEntry(fat, next + at, at + 1 < count ? next + at + 1 : 0xfff)
    image.set(content, (FIRST_DATA + (next - 2) * SECTORS_PER_CLUSTER) * SECTOR)
    const short = shortName(index)
    root.push(...longEntries(name, short))
    root.push(shortEntry(short, 0x20, count === 0 ? 0 : next, content.length))
    next += count
  })
  if (root.length > ROOT_ENTRIES) throw new RangeError('too many files')
  for (let copy = 0; copy < FATS; copy++) {
    image.set(fat, (RESERVED + copy * SECTORS_PER_FAT) * SECTOR)
  }
  const rootAt = (RESERVED + FATS * SECTORS_PER_FAT) * SECTOR
  root.forEach((entry, index) => {
    image.set(entry, rootAt + index * ENTRY)
  })
  return image
}

function writeBootSector(image: Uint8Array, label: string): void {
  const view = new DataView(image.buffer)
  image.set([0xeb, 0x3c, 0x90])
  image.set(ascii('MSDOS5.0'), 3)
  view.setUint16(11, SECTOR, true)
  view.setUint8(13, SECTORS_PER_CLUSTER)
  view.setUint16(14, RESERVED, true)
  view.setUint8(16, FATS)
  view.setUint16(17, ROOT_ENTRIES, true)
  view.setUint16(19, SECTORS, true)
  view.setUint8(21, 0xf8)
  view.setUint16(22, SECTORS_PER_FAT, true)
  view.setUint16(24, 32, true)
  view.setUint16(26, 64, true)
  view.setUint8(36, 0x80)
  view.setUint8(38, 0x29)
  view.setUint32(39, 0x63766d64, true)
  image.set(padded(label, 11), 43)
  image.set(ascii('FAT12   '), 54)
  image.set([0x55, 0xaa], 510)
}

/** 12 bits each, two of them in three bytes. */
function setEntry(fat: Uint8Array, cluster: number, value: number): void {
  const at = cluster + (cluster >> 1)
  const [low = 0, high = 0] = [fat[at], fat[at + 1]]
  if (cluster % 2 === 0) {
    fat[at] = value & 0xff
    fat[at + 1] = (high & 0xf0) | (value >> 8)
  } else {
    fat[at] = (low & 0x0f) | ((value & 0x0f) << 4)
    fat[at + 1] = value >> 4
  }
}

function shortEntry(
  name: Uint8Array,
  attributes: number,
  cluster: number,
  size: number,
): Uint8Array {
  const entry = new Uint8Array(ENTRY)
  const view = new DataView(entry.buffer)
  entry.set(name)
  view.setUint8(11, attributes)
  view.setUint16(24, DATE, true)
  view.setUint16(26, cluster, true)
  view.setUint32(28, size, true)
  return entry
}

/** Nobody reads it: every file has a long name. */
function shortName(index: number): Uint8Array {
  return padded(`FILE${index}`, 11)
}

/** Where the 13 characters of a long entry are. */
const PLACES = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30]

/** The parts of a long name, the last one first, as they stand before the short entry. */
function longEntries(name: string, short: Uint8Array): Uint8Array[] {
  const sum = short.reduce((total, byte) => (((total & 1) << 7) + (total >> 1) + byte) & 0xff, 0)
  const count = Math.ceil(name.length / PLACES.length)
  const entries = Array.from({ length: count }, (_, index) => {
    const entry = new Uint8Array(ENTRY)
    const view = new DataView(entry.buffer)
    entry[0] = (index + 1) | (index + 1 === count ? 0x40 : 0)
    entry[11] = 0x0f
    entry[13] = sum
    PLACES.forEach((place, offset) => {
      const at = index * PLACES.length + offset
      const code = at < name.length ? name.charCodeAt(at) : at === name.length ? 0 : 0xffff
      view.setUint16(place, code, true)
    })
    return entry
  })
  return entries.reverse()
}

function padded(text: string, length: number): Uint8Array {
  return ascii(text.slice(0, length).padEnd(length))
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0) & 0x7f)
}
