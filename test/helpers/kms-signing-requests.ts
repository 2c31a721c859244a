import { sign } from 'node:crypto'
import fc from 'fast-check'
import { type P256Key, p256Key } from '../../plugins/kms/certificates/p256-key.ts'
import { writeSigningRequest } from '../../plugins/kms/certificates/write-signing-request.ts'
import { randomP256Scalar } from '../../plugins/kms/derivation/curves.ts'
import { type Container, stripContainer, writeContainer } from '../../src/attest/container.ts'
import { raTlsReportData } from '../../src/attest/ra-tls.ts'
import { hex } from '../plugins/kms-fixtures.ts'
import { containerOf, type Machine } from '../plugins/kms-server-fixtures.ts'

/** A request to sign a certificate, in hex, with its signature. */
export function signingRequest(machine: Machine, reportData?: Uint8Array) {
  const key = p256Key(randomP256Scalar())
  const platform = machine.evidence(reportData ?? raTlsReportData(key.spki))
  const attestation = containerOf(platform, key.spki)
  const leaf = { subject: 'shop', altNames: [], serverAuth: true, clientAuth: true }
  const flags = { withEvidence: true, withAppInfo: true }
  const csr = writeSigningRequest({ spki: key.spki, leaf, ...flags, attestation })
  return { ...signed(csr, key), key }
}

/** The same with any bytes where the container is. */
export function requestWith(machine: Machine, container: Uint8Array) {
  const key = p256Key(randomP256Scalar())
  const attestation = unboundContainer(machine, 0)
  const leaf = { subject: 'shop', altNames: [], serverAuth: true, clientAuth: true }
  const flags = { withEvidence: false, withAppInfo: false }
  const whole = writeSigningRequest({ spki: key.spki, leaf, ...flags, attestation })
  const head = whole.subarray(0, whole.length - writeContainer(attestation).length)
  return signed(Buffer.concat([head, container]), key)
}

function signed(csr: Uint8Array, { privateKey }: P256Key) {
  return { csr: hex(csr), signature: hex(sign('sha256', csr, privateKey)) }
}

/** Good evidence about a key that nobody has. */
export function unboundContainer(machine: Machine, version: 0 | 1): Container {
  const spki = new Uint8Array(91)
  const platform = machine.evidence(raTlsReportData(spki))
  return { ...stripContainer(containerOf(platform, spki)), version }
}

/** Bytes that were cut, changed or added to, or others of their kind. */
export function damage(whole: Uint8Array): fc.Arbitrary<Uint8Array> {
  const at = fc.nat({ max: whole.length - 1 })
  const [first = 0] = whole
  return fc.oneof(
    fc.array(fc.tuple(at, fc.integer({ min: 1, max: 255 })), { minLength: 1 }).map((changes) => {
      const bytes = Uint8Array.from(whole)
      for (const [n, mask] of changes) bytes[n] = (bytes[n] ?? 0) ^ mask
      return bytes
    }),
    at.map((n) => whole.subarray(0, n)),
    fc
      .tuple(at, fc.uint8Array({ minLength: 1, maxLength: 64 }))
      .map(([n, more]) => Buffer.concat([whole.subarray(0, n), more, whole.subarray(n)])),
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.concat([Uint8Array.of(first), bytes])),
  )
}
