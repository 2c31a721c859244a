import { type Container, containerVersion } from '../attest/container.ts'
import { isRuntimeEntry, runtimeEventOf } from '../attest/runtime-event.ts'
import type { CallOptions } from '../device/devices.ts'
import type { Attester } from './attester.ts'

/**
 * Evidence with its log in dstack's attestation container (spec dstack §6.6).
 *
 * @param reportData 64 bytes.
 * @param config The `vm_config`.
 * @throws {DeviceError | NsmError | QueueError}
 */
export async function attestation(
  attester: Attester,
  reportData: Uint8Array,
  config: string,
  options: CallOptions,
): Promise<Container> {
  const evidence = await attester.evidence(reportData, options)
  const entries =
    evidence.platform === 'tdx' ? evidence.eventLog : await attester.runtimeEvents.list()
  const runtimeEvents = entries.filter(isRuntimeEntry).map(runtimeEventOf)
  const platform: Container['platform'] =
    evidence.platform === 'tdx'
      ? { kind: 'tdx', quote: evidence.quote, eventLog: evidence.eventLog }
      : { kind: 'nitro-enclave', document: evidence.document }
  return {
    version: containerVersion(runtimeEvents),
    platform,
    stack: { kind: 'dstack', reportData, runtimeEvents, config },
  }
}
