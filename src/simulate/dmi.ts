import { MAKER, WARNING } from './marks.ts'
import { type Folder, folder, readOnly } from './nodes.ts'

/**
 * /sys/class of the simulated machine: who asks what it is (`cloud_vendor` and `cloud_product` of
 * Info) reads that it is none.
 */
export function classFolder(): Folder {
  const line = (text: string) => readOnly(() => Buffer.from(`${text}\n`))
  return folder({
    dmi: folder({ id: folder({ sys_vendor: line(MAKER), product_name: line(WARNING) }) }),
  })
}
