/** What an agent writes for a KMS to sign is what a KMS reads. */
import assert from 'node:assert/strict'
import { sign } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { LAST_SECOND } from '../../plugins/kms/certificates/leaf.ts'
import { p256Key } from '../../plugins/kms/certificates/p256-key.ts'
import {
  type SigningRequestFields,
  writeSigningRequest,
} from '../../plugins/kms/certificates/write-signing-request.ts'
import { randomP256Scalar } from '../../plugins/kms/derivation/curves.ts'
import { isSignedByItsKey, readSigningRequest } from '../../plugins/kms/server/signing-request.ts'
import { stripContainer, writeContainer } from '../../src/attest/container.ts'
import { raTlsReportData } from '../../src/attest/ra-tls.ts'
import { hex } from './kms-fixtures.ts'
import { cloud, containerOf } from './kms-server-fixtures.ts'

const key = p256Key(randomP256Scalar())
const machines = cloud()
const containers = [machines.tdx(), machines.nitro()].map((machine) =>
  containerOf(machine.evidence(raTlsReportData(key.spki)), key.spki),
)

const seconds = fc.option(fc.nat(LAST_SECOND), { nil: undefined })
const name = fc.string({ unit: 'grapheme', maxLength: 300 })
const leaf = fc.record(
  {
    organization: fc.option(name, { nil: undefined }),
    subject: name,
    altNames: fc.array(name, { maxLength: 32 }),
    serverAuth: fc.boolean(),
    clientAuth: fc.boolean(),
    notBefore: seconds,
    notAfter: seconds,
  },
  { noNullPrototype: true },
)
const fields: fc.Arbitrary<SigningRequestFields> = fc.record({
  spki: fc.constant(key.spki),
  leaf,
  withEvidence: fc.boolean(),
  withAppInfo: fc.boolean(),
  attestation: fc.constantFrom(...containers),
})

test('a request is read as it was written, evidence stripped', () => {
  fc.assert(
    fc.property(fields, (written) => {
      const bytes = writeSigningRequest(written)
      const read = readSigningRequest(bytes, 2)
      const { spki, leaf, withEvidence, withAppInfo, attestation } = read
      assert.equal(hex(spki), hex(written.spki))
      assert.deepEqual(
        { leaf, withEvidence, withAppInfo },
        {
          leaf: written.leaf,
          withEvidence: written.withEvidence,
          withAppInfo: written.withAppInfo,
        },
      )
      const stripped = writeContainer(stripContainer(written.attestation))
      assert.equal(hex(writeContainer(attestation)), hex(stripped))
    }),
    { numRuns: 200 },
  )
})

test('a request is signed by the key in it, and by no other', () => {
  const [attestation] = containers
  assert.ok(attestation)
  const csr = writeSigningRequest({
    spki: key.spki,
    leaf: { subject: 'a', altNames: [], serverAuth: true, clientAuth: false },
    withEvidence: false,
    withAppInfo: false,
    attestation,
  })
  const request = readSigningRequest(csr, 2)
  for (const [by, expected] of [
    [key, true],
    [p256Key(randomP256Scalar()), false],
  ] as const) {
    assert.equal(isSignedByItsKey(request, csr, sign('sha256', csr, by.privateKey)), expected)
  }
})
