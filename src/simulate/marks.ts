import { createHash } from 'node:crypto'
import type { DistinguishedName } from '../x509/issue.ts'

/** Organisation of every subject, and vendor of the machine. */
export const MAKER = 'cvmd simulator'

/** In every subject the simulator issues for, so that no person takes it for the real thing. */
export const WARNING = 'NOT A REAL TEE'

/** A subject that shows where it comes from, whatever common name a verifier insists on. */
export function markedSubject(commonName: string): DistinguishedName {
  return [
    ['O', MAKER],
    ['OU', WARNING],
    ['CN', commonName],
  ]
}

/**
 * A measurement of something that does not exist: the hash of its name, so that anybody can tell
 * it and it is the same on every machine.
 *
 * @param name Such as `mrtd`; `cvmd simulator ` goes before it.
 */
export function markedHash(algorithm: 'sha256' | 'sha384', name: string): Uint8Array {
  return createHash(algorithm).update(`${MAKER} ${name}`).digest()
}
