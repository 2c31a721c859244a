// Prints whether the native addon loads, and uses it; also built into a single file by a test.
import { loadNative } from '../../src/device/native.ts'

const native = loadNative()
if ('transport' in native) {
  const kind = await native.transport.stat('/proc/meminfo')
  console.log(JSON.stringify({ kind: native.transport.kind, meminfo: kind }))
} else console.log(JSON.stringify(native))
