/** What is on a FAT12 disk without folders, read by the book and not as it was written. */
export function readFat(image: Uint8Array): {
  readonly label: string
  readonly files: readonly { readonly name: string; readonly content: Uint8Array }[]
} {
  const view = new DataView(image.buffer, image.byteOffset, image.length)
  const sector = view.getUint16(11, true)
  const cluster = sector * view.getUint8(13)
  const fatAt = view.getUint16(14, true) * sector
  const rootAt = fatAt + view.getUint8(16) * view.getUint16(22, true) * sector
  const entries = view.getUint16(17, true)
  const dataAt = rootAt + entries * 32
  const next = (at: number) => {
    const pair = view.getUint16(fatAt + at + (at >> 1), true)
    return at % 2 === 0 ? pair & 0xfff : pair >> 4
  }
  let label = ''
  let long = ''
  const files: { name: string; content: Uint8Array }[] = []
  for (let index = 0; index < entries; index++) {
    const at = rootAt + index * 32
    const kind = view.getUint8(at + 11)
    if (view.getUint8(at) === 0) break
    if (kind === 0x0f) {
      const places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30]
      const codes = places.map((place) => view.getUint16(at + place, true))
      const part = codes.filter((code) => code !== 0 && code !== 0xffff)
      long = String.fromCharCode(...part) + long
      continue
    }
    const short = String.fromCharCode(...image.subarray(at, at + 11)).trimEnd()
    if (kind === 0x08) label = short
    else {
      const size = view.getUint32(at + 28, true)
      const content = new Uint8Array(size)
      let done = 0
      for (let here = view.getUint16(at + 26, true); done < size; here = next(here)) {
        const from = dataAt + (here - 2) * cluster
        const piece = image.subarray(from, from + Math.min(cluster, size - done))
        content.set(piece, done)
        done += piece.length
      }
      files.push({ name: long || short, content })
    }
    long = ''
  }
  return { label, files }
}
