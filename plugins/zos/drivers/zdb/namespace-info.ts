/** What 0-db tells of a namespace (0-db `README.md`, "NSINFO"). Sizes are bytes. */
export interface NamespaceInfo {
  readonly name: string
  readonly entries: bigint
  readonly public: boolean
  readonly password: boolean
  /** What is in it. */
  readonly dataSize: bigint
  /** What may be in it; 0 is without limit. */
  readonly dataLimit: bigint
  readonly mode: 'user' | 'seq' | undefined
  /** Undefined where the version does not say. */
  readonly locked: boolean | undefined
  /** Of the disk that its data is on; undefined where the version does not say. */
  readonly diskFree: bigint | undefined
}

const MAX_BYTES = 64 * 1024

/**
 * Reads lines of `key: value`; lines that are none are skipped, as the heading is.
 *
 * @returns Undefined for a text without a name, or with a size that is no number.
 */
export function readNamespaceInfo(text: string): NamespaceInfo | undefined {
  if (text.length > MAX_BYTES) return undefined
  const values = new Map<string, string>()
  for (const line of text.split('\n')) {
    const match = /^([a-z_]+):[ \t]*(.*?)[ \t\r]*$/.exec(line)
    if (match) values.set(match[1] ?? '', match[2] ?? '')
  }
  const size = (key: string) => {
    const value = values.get(key)
    return value !== undefined && /^\d{1,20}$/.test(value) ? BigInt(value) : undefined
  }
  const flag = (key: string) => {
    const value = values.get(key)
    return value === 'yes' ? true : value === 'no' ? false : undefined
  }
  const name = values.get('name')
  const dataSize = size('data_size_bytes')
  const dataLimit = size('data_limits_bytes')
  if (name === undefined || dataSize === undefined || dataLimit === undefined) return undefined
  const mode = values.get('mode')
  return {
    name,
    entries: size('entries') ?? 0n,
    public: flag('public') ?? false,
    password: flag('password') ?? false,
    dataSize,
    dataLimit,
    mode: mode?.startsWith('user') ? 'user' : mode?.startsWith('seq') ? 'seq' : undefined,
    locked: flag('locked'),
    diskFree: size('data_disk_freespace_bytes'),
  }
}
