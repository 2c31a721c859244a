import { sign } from 'node:crypto'
import { toHex } from '../../../src/attest/hex.ts'
import { messageOf } from '../../../src/errors.ts'
import type { Certificate } from '../../../src/x509/certificate.ts'
import { readIssuedChain } from '../certificates/issued-chain.ts'
import type { P256Key } from '../certificates/p256-key.ts'
import {
  type SigningRequestFields,
  writeSigningRequest,
} from '../certificates/write-signing-request.ts'
import { KmsError } from '../client/connection.ts'
import type { KmsCluster } from './kms-cluster.ts'

/** Has certificates signed by a KMS. */
export interface KmsSigner {
  /**
   * @param vmConfig This machine's, which goes along with its evidence.
   * @returns The chain in PEM: leaf, authority of the application, root.
   * @throws {ApiError} As `kmsProblem`.
   * @throws {EvidenceError} For evidence that cannot be written.
   */
  sign(
    key: P256Key,
    fields: Omit<SigningRequestFields, 'spki'>,
    vmConfig: string,
    signal: AbortSignal | undefined,
  ): Promise<readonly string[]>
}

/** By which of a KMS's root keys certificates are signed. */
export interface SigningRoot {
  readonly certificate: Certificate
  /** Undefined where the KMS has but one. */
  readonly version?: number | undefined
}

const API_VERSION = 2

/** @param root In which every chain has to end. */
export function kmsSigner(cluster: KmsCluster, root: SigningRoot): KmsSigner {
  const { certificate, version } = root
  return {
    async sign(key, fields, vmConfig, signal) {
      const { spki, privateKey } = key
      const csr = writeSigningRequest({ ...fields, spki })
      const args = {
        api_version: API_VERSION,
        csr: toHex(csr),
        signature: toHex(sign('sha256', csr, privateKey)),
        vm_config: vmConfig,
        ...(version !== undefined && { root_version: version }),
      }
      const { withEvidence } = fields
      return cluster.use(async (kms) => {
        const { certificate_chain: chain } = await kms.call('SignCert', args, signal)
        try {
          return readIssuedChain(chain, {
            spki,
            root: certificate,
            withEvidence,
            at: Date.now(),
          })
        } catch (cause) {
          const why = `Cannot use the certificate that KMS ${kms.url} signed: ${messageOf(cause)}`
          throw new KmsError('KMS_MALFORMED', why, { cause })
        }
      }, signal)
    },
  }
}
