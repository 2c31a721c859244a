import { readRaTls } from '../../src/attest/ra-tls.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'

export { readCertifiedApp } from '../../src/attest/ra-tls-app.ts'

/** What a certificate in DER says about its owner. */
export const readDer = (der: Uint8Array) => readRaTls(parseCertificate(der))
