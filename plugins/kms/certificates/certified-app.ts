import type { Container } from '../../../src/attest/container.ts'
import { fromHex } from '../../../src/attest/hex.ts'
import { appInfo, deviceId, nitroDeviceId, nitroImageHash } from '../../../src/attest/identity.ts'
import { parseDocument } from '../../../src/attest/nitro/document.ts'
import type { CertifiedApp } from '../../../src/attest/ra-tls-app.ts'
import { pckOf } from '../../../src/attest/tdx/pck.ts'
import { parseQuote } from '../../../src/attest/tdx/quote.ts'
import type { AppIdentity } from '../../../src/attester/app-identity.ts'

/**
 * What a certificate with app info says (spec dstack §6.4): what the evidence measures, and of what
 * it does not measure, what the configuration says.
 *
 * @throws {EvidenceError} When the evidence cannot be read.
 */
export function certifiedApp({ platform }: Container, identity: AppIdentity): CertifiedApp {
  const { keyProvider } = identity
  const configured = {
    appId: fromHex(identity.appId, 'app id'),
    composeHash: fromHex(identity.composeHash, 'compose hash'),
    instanceId: fromHex(identity.instanceId, 'instance id'),
    osImageHash: fromHex(identity.osImageHash, 'OS image hash'),
    keyProvider: Buffer.from(keyProvider ? JSON.stringify(keyProvider) : ''),
  }
  if (platform.kind === 'nitro-enclave') {
    const { pcrs } = parseDocument(platform.document)
    const image = nitroImageHash(pcrs)
    return {
      ...configured,
      deviceId: nitroDeviceId(pcrs),
      mrSystem: image,
      mrAggregated: image,
      osImageHash: image,
    }
  }
  const quote = parseQuote(platform.quote)
  const measured = appInfo(platform.eventLog, quote)
  return {
    appId: measured.appId ?? configured.appId,
    composeHash: measured.composeHash ?? configured.composeHash,
    instanceId: measured.instanceId ?? configured.instanceId,
    deviceId: deviceId(pckOf(quote).ppid),
    mrSystem: measured.mrSystem,
    mrAggregated: measured.mrAggregated,
    osImageHash: measured.osImageHash ?? configured.osImageHash,
    keyProvider:
      measured.keyProvider === undefined
        ? configured.keyProvider
        : Buffer.from(measured.keyProvider),
  }
}
