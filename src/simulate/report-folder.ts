import { Errno, type Folder, type Node, readOnly } from './nodes.ts'

const REPORT_DATA_BYTES = 64
const NOTHING = new Uint8Array(0)

/**
 * The folder of configfs-tsm with the provider `tdx_guest`: each entry made in it turns report
 * data into a quote, with the kernel's behaviour of spec tdx §3.
 *
 * @param quote Makes a quote over 64 bytes.
 */
export function reportFolder(quote: (reportData: Uint8Array) => Uint8Array): Folder {
  const entries = new Map<string, Node>()
  return {
    kind: 'directory',
    entries,
    make: (name) => entries.set(name, reportEntry(quote)),
    remove: (name) => entries.delete(name),
  }
}

function reportEntry(quote: (reportData: Uint8Array) => Uint8Array): Folder {
  let generation = 0
  let reportData: Uint8Array = NOTHING
  let cached: Uint8Array | undefined

  function write(bytes: Uint8Array): void {
    const { byteLength: length } = bytes
    const refused = length === 0 ? 'EFAULT' : length > REPORT_DATA_BYTES ? 'EFBIG' : undefined
    // A refused write is committed all the same when its descriptor is closed, as nothing.
    reportData = refused ? NOTHING : bytes
    generation += 1
    cached = undefined
    if (refused) throw new Errno(refused)
  }

  function read(): Uint8Array {
    if (reportData.byteLength !== REPORT_DATA_BYTES) throw new Errno('EINVAL')
    cached ??= quote(reportData)
    return cached
  }

  return {
    kind: 'directory',
    entries: new Map<string, Node>([
      ['generation', readOnly(() => Buffer.from(`${generation}\n`))],
      ['inblob', { kind: 'file', write }],
      ['outblob', readOnly(read)],
      ['provider', readOnly(() => Buffer.from('tdx_guest\n'))],
    ]),
  }
}
