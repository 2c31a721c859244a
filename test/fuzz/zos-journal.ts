import { createHash } from 'node:crypto'
import { apply, type DeploymentState } from '../../plugins/zos/provision/journal/apply.ts'
import { replay } from '../../plugins/zos/provision/journal/replay.ts'
import { shorten } from '../../plugins/zos/provision/journal/shorten.ts'
import { readRecord, writeRecord } from '../../plugins/zos/provision/journal/wire.ts'

/**
 * Reads a journal as it is, and with every checksum made right, which few changes would get past.
 * Neither may throw.
 *
 * @returns Whether what was read says the same after it was written anew.
 */
export function readAgain(bytes: Uint8Array): boolean {
  replay(sealed(bytes))
  const { state, size, torn } = replay(bytes)
  if (size + torn !== bytes.length) return false
  if (!state) return true
  let again: DeploymentState | undefined
  for (const record of shorten(bytes, 10, 10_000)) {
    again = apply(again, readRecord(writeRecord(record).slice(0, -1)))
  }
  return again !== undefined && again.workloads.size === state.workloads.size
}

function sealed(bytes: Uint8Array): Uint8Array {
  const lines = new TextDecoder().decode(bytes).split('\n')
  const written = lines.map((line) => {
    const body = line.replace(/(,"sum":"[^"]*")?\}$/, '')
    const sum = createHash('sha256').update(body).digest('hex').slice(0, 16)
    return `${body},"sum":"${sum}"}`
  })
  return new TextEncoder().encode(written.join('\n'))
}
