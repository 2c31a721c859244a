import { createHash, randomBytes } from 'node:crypto'
import { type Der, element, integer, octetString, oid, sequence } from '../x509/der-write.ts'
import { extension } from '../x509/issue.ts'
import { PLATFORM } from './tdx-platform.ts'

const SGX = '1.2.840.113741.1.13.1'
const SCALABLE = 1

/**
 * The SGX extension of a PCK certificate (spec tdx §8): which platform this is and at which
 * security versions. Each call is a new platform with identifiers of its own.
 */
export function pckExtension(): Der {
  const { componentSvns, pceSvn, pceId, fmspc } = PLATFORM
  const platform = randomBytes(16)
  const ppid = createHash('sha256').update('ppid').update(platform).digest().subarray(0, 16)
  const components = [...componentSvns].map((svn, i) => field(`2.${i + 1}`, unsigned(svn)))
  const tcb = sequence(
    ...components,
    field('2.17', unsigned(pceSvn)),
    field('2.18', octetString(componentSvns)),
  )
  const fields = [
    field('1', octetString(ppid)),
    field('2', tcb),
    field('3', octetString(pceId)),
    field('4', octetString(fmspc)),
    field('5', element(0x0a, Uint8Array.of(SCALABLE))),
    field('6', octetString(platform)),
  ]
  return extension(SGX, false, sequence(...fields))
}

const field = (arc: string, value: Der): Der => sequence(oid(`${SGX}.${arc}`), value)
const unsigned = (value: number): Der => integer(Uint8Array.of(value))
