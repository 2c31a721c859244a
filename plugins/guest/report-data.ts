import { createHash } from 'node:crypto'
import {
  keccak_256,
  keccak_384,
  keccak_512,
  sha3_256,
  sha3_384,
  sha3_512,
} from '@noble/hashes/sha3'
import { padReportData } from '../../src/compat/prpc.ts'
import { ApiError } from '../../src/errors.ts'

const REPORT_DATA_BYTES = 64

const sha2 = (name: string) => (data: Uint8Array) => createHash(name).update(data).digest()

/** The hashes `Tappd.TdxQuote` knows (spec dstack §6.1). */
const HASHES: Readonly<Record<string, (data: Uint8Array) => Uint8Array>> = {
  sha256: sha2('sha256'),
  sha384: sha2('sha384'),
  sha512: sha2('sha512'),
  'sha3-256': sha3_256,
  'sha3-384': sha3_384,
  'sha3-512': sha3_512,
  keccak256: keccak_256,
  keccak384: keccak_384,
  keccak512: keccak_512,
}

/**
 * Report data of the legacy `TdxQuote`: `hash(prefix ":" data)`, left-aligned, or with `raw` the 64
 * bytes as they are.
 *
 * @param prefix Default `app-data`; of no effect with `raw`.
 * @throws {ApiError} 400 for an unknown hash, or `raw` data that is not 64 bytes.
 */
export function hashed(data: Uint8Array, algorithm: string, prefix: string): Uint8Array {
  if (algorithm === 'raw') {
    if (data.byteLength === REPORT_DATA_BYTES) return data
    throw new ApiError(400, 'REPORT_DATA_LENGTH', 'invalid content length')
  }
  const name = algorithm === '' ? 'sha512' : algorithm
  const digest = Object.hasOwn(HASHES, name) ? HASHES[name] : undefined
  if (!digest) throw new ApiError(400, 'HASH_ALGORITHM', 'invalid hash algorithm')
  return padReportData(digest(Buffer.concat([Buffer.from(`${prefix || 'app-data'}:`), data])))
}
