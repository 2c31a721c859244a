/** The files of a simulated machine, and the kernel's answers to who looks for them. */

/** A call the simulated kernel refuses. */
export class Errno extends Error {
  override readonly name = 'Errno'
  /** `ENOENT`, `EINVAL`, … */
  readonly code: string

  constructor(code: string) {
    super(code)
    this.code = code
  }
}

export type Node = Folder | Attribute | CharacterDevice

export interface Folder {
  readonly kind: 'directory'
  readonly entries: ReadonlyMap<string, Node>
  /** Makes an entry; the name is free and no longer than the kernel allows. */
  readonly make?: (name: string) => void
  /** Removes an entry that is a folder. */
  readonly remove?: (name: string) => void
}

/** A file of sysfs or configfs; what it has no function for, its mode forbids. */
export interface Attribute {
  readonly kind: 'file'
  readonly read?: () => Uint8Array
  readonly write?: (bytes: Uint8Array) => void
}

export interface CharacterDevice {
  readonly kind: 'character-device'
  readonly ioctl: (operation: 'tdreport' | 'nsm', input: Uint8Array) => Uint8Array
}

/** NAME_MAX of include/uapi/linux/limits.h. */
const MAX_NAME_BYTES = 255

/** A folder with fixed content. */
export function folder(entries: Readonly<Record<string, Node>>): Folder {
  return { kind: 'directory', entries: new Map(Object.entries(entries)) }
}

/** A file nobody may write. */
export function readOnly(read: () => Uint8Array): Attribute {
  return { kind: 'file', read }
}

/** @throws {Errno} `ENOENT`, `ENOTDIR`, `ENAMETOOLONG`. */
export function find(root: Folder, path: string): Node {
  let node: Node = root
  for (const name of namesOf(path)) {
    const next: Node | undefined = expectFolder(node).entries.get(expectName(name))
    if (next === undefined) throw new Errno('ENOENT')
    node = next
  }
  return node
}

/** The folder a path is in, and its last name. @throws {Errno} As {@link find}. */
export function findParent(root: Folder, path: string): [parent: Folder, name: string] {
  const names = namesOf(path)
  const name = expectName(names.pop() ?? '')
  return [expectFolder(find(root, `/${names.join('/')}`)), name]
}

/** @throws {Errno} `ENOTDIR`. */
export function expectFolder(node: Node): Folder {
  if (node.kind !== 'directory') throw new Errno('ENOTDIR')
  return node
}

function expectName(name: string): string {
  if (Buffer.byteLength(name) > MAX_NAME_BYTES) throw new Errno('ENAMETOOLONG')
  return name
}

const namesOf = (path: string): string[] => path.split('/').filter((name) => name !== '')
