import type { Certificate } from '../../x509/certificate.ts'
import { type DerElement, DerReader, TAG } from '../../x509/der-read.ts'
import { parsePemChain } from '../../x509/pem.ts'
import { EvidenceError } from '../evidence-error.ts'
import type { Quote } from './quote.ts'

/** The SGX extension of a PCK certificate: which platform, at which security versions. */
export interface PckPlatform {
  /** 16 bytes: the processor package. */
  readonly ppid: Uint8Array
  /** 16 numbers of 0 to 255, decomposed from the CPUSVN by Intel. */
  readonly componentSvns: readonly number[]
  readonly pceSvn: number
  /** 16 bytes. */
  readonly cpuSvn: Uint8Array
  /** 2 bytes. */
  readonly pceId: Uint8Array
  /** 6 bytes: family, model, stepping, platform, custom SKU. */
  readonly fmspc: Uint8Array
  readonly sgxType: 'standard' | 'scalable' | 'scalable-with-integrity'
  /** 16 bytes, only of platforms with more than one package. */
  readonly platformInstanceId?: Uint8Array
}

const CHAIN = 3
const SGX = '1.2.840.113741.1.13.1'
const SGX_TYPES = ['standard', 'scalable', 'scalable-with-integrity'] as const
const COMPONENTS = 16
const WHAT = 'SGX extension of the PCK certificate'

/** The certificates a quote carries: the PCK, its authority and the root. */
export type PckChain = readonly [pck: Certificate, authority: Certificate, root: Certificate]

/**
 * The certificates inside a quote, not verified.
 *
 * @throws {EvidenceError} `PCK_CHAIN` when there are fewer than three, or what `parsePemChain`
 *   throws.
 */
export function pckChainOf(quote: Quote): PckChain {
  const { type, data } = quote.signature.certification
  if (type !== 'pck-chain') {
    const found = `the quote's certification data are "${type}", expected "pck-chain"`
    throw new EvidenceError('PCK_CHAIN', `Cannot read PCK certificate chain: ${found}`)
  }
  const chain = parsePemChain(Buffer.from(data).toString('latin1'), CHAIN)
  const [pck, authority, root] = chain
  if (authority === undefined || root === undefined) {
    const found = `${chain.length} certificates, expected ${CHAIN}`
    throw new EvidenceError('PCK_CHAIN', `Cannot read PCK certificate chain: ${found}`)
  }
  return [pck, authority, root]
}

/**
 * The platform a quote says it comes from, not verified.
 *
 * @throws {EvidenceError} As {@link pckChainOf} and {@link parsePckExtension}.
 */
export const pckOf = (quote: Quote): PckPlatform => parsePckExtension(pckChainOf(quote)[0])

/**
 * Reads the extension (spec tdx §8).
 *
 * @throws {EvidenceError} `PCK_EXTENSION` when the certificate has none, or one with fields
 *   missing; `DER_MALFORMED`.
 */
export function parsePckExtension(certificate: Certificate): PckPlatform {
  const extension = certificate.extension(SGX)
  if (extension === undefined) throw refuse('the certificate has none')
  const fields = readFields(extension)
  const tcb = readFields(take(fields, '2', TAG.sequence).whole)
  return {
    ppid: bytes(fields, '1', 16),
    componentSvns: Array.from({ length: COMPONENTS }, (_, i) => number(tcb, `2.${i + 1}`, 0xff)),
    pceSvn: number(tcb, '2.17', 0xffff),
    cpuSvn: bytes(tcb, '2.18', 16),
    pceId: bytes(fields, '3', 2),
    fmspc: bytes(fields, '4', 6),
    sgxType: readSgxType(fields),
    ...(fields.has('6') ? { platformInstanceId: bytes(fields, '6', 16) } : {}),
  }
}

/** Values by what follows the extension's own identifier in theirs. */
type Fields = ReadonlyMap<string, DerElement>

/** A sequence of pairs, each an identifier and a value. */
function readFields(der: Uint8Array): Fields {
  const reader = new DerReader(der, WHAT)
  const pairs = reader.enter(TAG.sequence)
  reader.end()
  const fields = new Map<string, DerElement>()
  while (!pairs.done) {
    const pair = pairs.enter(TAG.sequence)
    const oid = pair.oid()
    const value = pair.read()
    pair.end()
    const arc = oid.startsWith(`${SGX}.`) ? oid.slice(SGX.length + 1) : oid
    if (fields.has(arc)) throw refuse(`field ${arc} is there twice`)
    fields.set(arc, value)
  }
  return fields
}

function take(fields: Fields, arc: string, tag: number): DerElement {
  const value = fields.get(arc)
  if (value?.tag !== tag) throw refuse(`field ${arc} is missing, or of another type`)
  return value
}

function bytes(fields: Fields, arc: string, length: number): Uint8Array {
  const { content } = take(fields, arc, TAG.octetString)
  if (content.length !== length) {
    throw refuse(`field ${arc} has ${content.length} bytes, expected ${length}`)
  }
  return content
}

function number(fields: Fields, arc: string, most: number): number {
  const value = new DerReader(take(fields, arc, TAG.integer).whole, WHAT).small()
  if (value > most) throw refuse(`field ${arc} is ${value}, at most ${most} is allowed`)
  return value
}

function readSgxType(fields: Fields): PckPlatform['sgxType'] {
  const { content } = take(fields, '5', TAG.enumerated)
  const type = content.length === 1 ? SGX_TYPES[content[0] ?? 0] : undefined
  if (type === undefined) throw refuse('field 5 is no SGX type')
  return type
}

function refuse(found: string): EvidenceError {
  return new EvidenceError('PCK_EXTENSION', `Cannot read ${WHAT}: ${found}`)
}
