import 'reflect-metadata'
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  X509Certificate as PeculiarCertificate,
  SubjectKeyIdentifierExtension,
  X509Crl,
} from '@peculiar/x509'
import { parseCertificate } from '../src/x509/certificate.ts'
import {
  authorityKeyIdentifier,
  basicConstraints,
  certificatePem,
  type DistinguishedName,
  issueCertificate,
  issueCrl,
  keyUsage,
  subjectKeyIdentifier,
} from '../src/x509/issue.ts'
import { lacks } from './helpers/counterpart.ts'

const FROM = Date.UTC(2030, 0, 1)
const TO = Date.UTC(2060, 0, 1)
const AUTHORITY: DistinguishedName = [
  ['O', 'Tests'],
  ['OU', 'Certificates, and "names"'],
  ['CN', 'Größe = 1+1'],
]
const LEAF: DistinguishedName = [['CN', 'leaf']]

const ca = generateKeyPairSync('ec', { namedCurve: 'P-384' })
const leaf = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const validity = { validFrom: FROM, validTo: TO }

const caDer = issueCertificate(
  {
    subject: AUTHORITY,
    issuer: AUTHORITY,
    publicKey: ca.publicKey,
    ...validity,
    extensions: [
      basicConstraints(true, 0),
      keyUsage('keyCertSign', 'cRLSign'),
      subjectKeyIdentifier(ca.publicKey),
    ],
  },
  ca.privateKey,
)
const leafDer = issueCertificate(
  {
    subject: LEAF,
    issuer: AUTHORITY,
    publicKey: leaf.publicKey,
    ...validity,
    extensions: [
      basicConstraints(false),
      keyUsage('digitalSignature', 'nonRepudiation'),
      subjectKeyIdentifier(leaf.publicKey),
      authorityKeyIdentifier(ca.publicKey),
    ],
  },
  ca.privateKey,
)

/** A copy in memory of its own, as the reader's types ask for. */
const buffer = (der: Uint8Array) => new Uint8Array(der).buffer

test('node:crypto reads what was issued, and the signatures hold', () => {
  const [issuer, issued] = [new X509Certificate(caDer), new X509Certificate(leafDer)]
  assert.ok(issuer.verify(ca.publicKey) && issued.verify(ca.publicKey))
  assert.ok(issued.checkIssued(issuer))
  assert.deepEqual([issuer.ca, issued.ca], [true, false])
  assert.deepEqual([Date.parse(issued.validFrom), Date.parse(issued.validTo)], [FROM, TO])
  assert.notEqual(issuer.serialNumber, issued.serialNumber)
  const pem = certificatePem(leafDer)
  assert.ok(new X509Certificate(pem).raw.equals(leafDer))
  assert.ok(pem.split('\n').every((line) => line.length <= 64))
})

test('the reader of this project and one from outside agree on every field', () => {
  const ours = parseCertificate(caDer)
  assert.deepEqual([ours.isCa, ours.pathLength, ours.basicConstraintsCritical], [true, 0, true])
  assert.deepEqual([ours.notBefore, ours.notAfter, ours.hash], [FROM, TO, 'sha384'])
  assert.deepEqual(ours.keyUsage, new Set(['keyCertSign', 'cRLSign']))
  assert.equal(ours.subject.commonName, 'Größe = 1+1')
  assert.deepEqual(parseCertificate(leafDer).issuer.der, ours.subject.der)
  assert.deepEqual(parseCertificate(leafDer).unknownCritical, [])

  const [theirs, theirLeaf] = [caDer, leafDer].map((der) => new PeculiarCertificate(buffer(der)))
  assert.ok(theirs && theirLeaf)
  const constraints = theirs.getExtension(BasicConstraintsExtension)
  assert.deepEqual(
    [constraints?.ca, constraints?.pathLength, constraints?.critical],
    [true, 0, true],
  )
  const usages = theirLeaf.getExtension(KeyUsagesExtension)?.usages
  assert.equal(usages, KeyUsageFlags.digitalSignature | KeyUsageFlags.nonRepudiation)
  const authority = theirLeaf.getExtension(AuthorityKeyIdentifierExtension)?.keyId
  assert.equal(authority, theirs.getExtension(SubjectKeyIdentifierExtension)?.keyId)
  assert.match(authority ?? '', /^[0-9a-f]{40}$/)
  assert.deepEqual(theirs.subjectName.getField('OU'), ['Certificates, and "names"'])
  assert.deepEqual(theirLeaf.issuerName.getField('CN'), ['Größe = 1+1'])
})

test('revocation lists name what they revoke and are signed', async (t) => {
  const serial = parseCertificate(leafDer).serial
  const fields = { issuer: AUTHORITY, thisUpdate: FROM, nextUpdate: TO, number: 200 }
  const der = issueCrl({ ...fields, revoked: [serial] }, ca.privateKey)
  const crl = new X509Crl(buffer(der))
  assert.deepEqual([Number(crl.thisUpdate), Number(crl.nextUpdate)], [FROM, TO])
  assert.equal(crl.entries.length, 1)
  assert.equal(crl.entries[0]?.serialNumber, Buffer.from(serial).toString('hex'))
  assert.ok(await crl.verify({ publicKey: new PeculiarCertificate(buffer(caDer)) }))
  const empty = issueCrl(fields, ca.privateKey)
  assert.equal(new X509Crl(buffer(empty)).entries.length, 0)

  if (lacks(t, 'openssl')) return
  const text = execFileSync('openssl', ['crl', '-inform', 'DER', '-text', '-noout'], { input: der })
  assert.match(text.toString(), /Version 2[\s\S]*CRL Number:\s+200[\s\S]*Revoked Certificates/)
})

test('keys on other curves are refused', () => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-521' })
  const fields = { subject: LEAF, issuer: LEAF, publicKey, ...validity, extensions: [] }
  assert.throws(
    () => issueCertificate(fields, privateKey),
    /^TypeError: Cannot issue with a key on /,
  )
})
