import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'

/** What an initramfs holds, by path without a leading slash; folders before what is in them. */
export type Tree = ReadonlyMap<string, Node>

/** A folder, a symbolic link, or a file with its bytes here or on disk. */
export type Node =
  | { readonly kind: 'folder' }
  | { readonly kind: 'link'; readonly to: string }
  | { readonly kind: 'file'; readonly mode: number; readonly from: string | Uint8Array }

/**
 * Writes an initramfs in the "newc" format (kernel:
 * Documentation/driver-api/early-userspace/buffer-format.rst), all owned by root.
 */
export function writeCpio(path: string, tree: Tree): void {
  writeFileSync(path, '')
  let inode = 0
  for (const [name, node] of tree) appendFileSync(path, member(++inode, name, node))
  appendFileSync(path, record(0, 'TRAILER!!!', 0, new Uint8Array()))
}

function member(inode: number, name: string, node: Node): Uint8Array {
  switch (node.kind) {
    case 'folder':
      return record(inode, name, 0o040755, new Uint8Array())
    case 'link':
      return record(inode, name, 0o120777, Buffer.from(node.to))
    case 'file':
      return record(
        inode,
        name,
        0o100000 | node.mode,
        typeof node.from === 'string' ? readFileSync(node.from) : node.from,
      )
  }
}

function record(inode: number, name: string, mode: number, data: Uint8Array): Uint8Array {
  const fields = [inode, mode, 0, 0, 1, 0, data.byteLength, 0, 0, 0, 0, name.length + 1, 0]
  const hex = fields.map((field) => field.toString(16).padStart(8, '0')).join('')
  return Buffer.concat([padded(Buffer.from(`070701${hex}${name}\0`)), padded(data)])
}

/** Headers and contents each begin at a multiple of four. */
function padded(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([bytes, new Uint8Array(-bytes.byteLength & 3)])
}
