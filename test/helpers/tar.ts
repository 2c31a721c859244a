/** One entry of a {@link createTar}: a folder ends with a slash, a link names its target. */
export interface TarEntry {
  readonly path: string
  readonly data?: Uint8Array
  readonly link?: string
}

const BLOCK = 512

/** A tar in the ustar form. All belongs to root, is of 1970, and may be run by all. */
export function createTar(entries: readonly TarEntry[]): Buffer {
  const blocks: Uint8Array[] = []
  for (const { path, data = new Uint8Array(), link = '' } of entries) {
    const header = Buffer.alloc(BLOCK)
    const type = path.endsWith('/') ? '5' : link === '' ? '0' : '2'
    header.write(path, 0, 100)
    header.write('0000755\0', 100)
    header.write('0000000\x000000000\0', 108)
    header.write(`${data.length.toString(8).padStart(11, '0')}\0`, 124)
    header.write('00000000000\0        ', 136)
    header.write(`${type}${link}`, 156, 101)
    header.write('ustar\x0000', 257)
    const sum = header.reduce((total, byte) => total + byte, 0)
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
    blocks.push(header, data, Buffer.alloc((BLOCK - (data.length % BLOCK)) % BLOCK))
  }
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)])
}
