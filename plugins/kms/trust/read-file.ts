import { TrustError } from '../../../src/collateral/trust-error.ts'
import { messageOf } from '../../../src/errors.ts'
import { parseCertificate } from '../../../src/x509/certificate.ts'
import { certificatePem } from '../../../src/x509/issue.ts'
import { readPem } from '../../../src/x509/pem.ts'
import { readConfigured } from '../policy/read-file.ts'

/** Some twenty certificates. */
const MAX_PEM_BYTES = 64 * 1024
const MAX_AUTHORITIES = 16

/**
 * Reads a small file that the configuration names.
 *
 * @param most Bytes; a larger file is refused.
 * @throws {TrustError} `TRUST_SETUP`, naming the file.
 */
export async function readTrusted(path: string, most: number): Promise<Uint8Array> {
  try {
    return await readConfigured(path, most)
  } catch (error) {
    throw new TrustError('TRUST_SETUP', messageOf(error))
  }
}

/**
 * Reads an anchor: PEM with one certificate, of an authority.
 *
 * @returns DER.
 * @throws {TrustError} `TRUST_SETUP`, naming the file.
 */
export async function readAnchor(path: string): Promise<Uint8Array> {
  const [der, another] = await readCertificates(path, 2)
  if (another) throw unusable(path, 'it holds more than one certificate, and only one is an anchor')
  const { isCa } = usable(path, () => parseCertificate(der))
  if (!isCa) throw unusable(path, 'its certificate is not that of an authority')
  return new Uint8Array(der)
}

/**
 * Reads who may have signed a service's certificate.
 *
 * @returns PEM, as the runtimes take it.
 * @throws {TrustError} `TRUST_SETUP`, naming the file.
 */
export async function readAuthorities(path: string): Promise<string> {
  const found = await readCertificates(path, MAX_AUTHORITIES)
  // Only what was understood here is passed on: runtimes ignore blocks that they cannot read.
  return found.map(certificatePem).join('')
}

async function readCertificates(
  path: string,
  most: number,
): Promise<[Uint8Array, ...Uint8Array[]]> {
  const text = new TextDecoder().decode(await readTrusted(path, MAX_PEM_BYTES))
  const [first, ...others] = usable(path, () => readPem(text, 'CERTIFICATE', most))
  if (!first) throw unusable(path, 'it holds no certificate in PEM')
  return [first, ...others]
}

function usable<T>(path: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    throw unusable(path, messageOf(error))
  }
}

const unusable = (path: string, why: string): TrustError =>
  new TrustError('TRUST_SETUP', `Cannot use "${path}": ${why}`)
