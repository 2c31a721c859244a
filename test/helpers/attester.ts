import { createHash } from 'node:crypto'
import type { EventLogEntry } from '../../src/attest/event-log.ts'
import type { Attester, Evidence } from '../../src/attester/attester.ts'
import {
  type CallOptions,
  type NsmDevice,
  NsmError,
  type NsmFields,
  type TdxDevice,
  type TdxRegisters,
} from '../../src/device/devices.ts'
import { createTdxPki } from '../../src/simulate/tdx-pki.ts'
import { createQuotingEnclave } from '../../src/simulate/tdx-quote.ts'
import { TrustDomain } from '../../src/simulate/trust-domain.ts'

/** What a fake was asked, and what is to go wrong. */
export interface Fake {
  readonly attester: Attester
  /** Options of all calls so far. */
  readonly calls: (CallOptions | undefined)[]
  /** Awaited before each call: throws what the device is to throw, or never ends. */
  fault: () => void | Promise<void>
}

/** A TDX guest without a queue or a kernel; its quotes are signed and readable. */
export function fakeTdx(eventLog: readonly EventLogEntry[] = [], bootLog?: Uint8Array): Fake {
  const domain = new TrustDomain()
  const sign = createQuotingEnclave(createTdxPki(Date.now()))
  return fake('tdx', (called) => {
    const tdx: TdxDevice = {
      canQuote: true,
      canExtend: true,
      quote: called((reportData) => sign(domain.report(reportData))),
      report: called((reportData: Uint8Array) => domain.report(reportData)),
      registers: called(
        (): TdxRegisters => ({
          mrtd: domain.mrtd,
          mrConfigId: domain.mrConfigId,
          mrOwner: domain.mrOwner,
          mrOwnerConfig: domain.mrOwnerConfig,
          rtmr: [domain.rtmr(0), domain.rtmr(1), domain.rtmr(2), domain.rtmr(3)],
        }),
      ),
      extend: called((index, digest) => domain.extend(index, digest)),
      bootLog: called(() => bootLog),
    }
    const evidence = async (reportData: Uint8Array, options?: CallOptions): Promise<Evidence> => {
      const quote = await tdx.quote(reportData, options)
      return { platform: 'tdx', quote, eventLog, reportData }
    }
    return { tdx, nsm: undefined, evidence, eventLog: async () => eventLog }
  })
}

/** A Nitro enclave's module; its documents are the fields, joined by slashes. */
export function fakeNsm(): Fake {
  const pcrs = Array.from({ length: 32 }, (_, i) => ({ locked: i < 16, value: new Uint8Array(48) }))
  const pcr = (index: number, operation: string) => {
    const found = pcrs[index]
    if (!found) throw new NsmError('InvalidIndex', operation)
    return found
  }
  const open = (index: number, operation: string) => {
    const found = pcr(index, operation)
    if (found.locked) throw new NsmError('ReadOnlyIndex', operation)
    return found
  }
  const text = (bytes: Uint8Array | undefined) => (bytes ? Buffer.from(bytes).toString('hex') : '-')
  return fake('nitro', (called) => {
    const nsm: NsmDevice = {
      describe: called(() => ({
        version: '1.2.3',
        moduleId: 'i-0123-enc4567',
        maxPcrs: pcrs.length,
        lockedPcrs: pcrs.flatMap(({ locked }, index) => (locked ? index : [])),
        digest: 'SHA384',
      })),
      random: called(() => new Uint8Array(256).fill(7)),
      describePcr: called((index) => ({ ...pcr(index, 'DescribePCR') })),
      extendPcr: called((index, data) => {
        const found = open(index, 'ExtendPCR')
        found.value = createHash('sha384').update(found.value).update(data).digest()
        return found.value
      }),
      lockPcr: called((index) => {
        open(index, 'LockPCR').locked = true
      }),
      lockPcrs: called((range) => {
        if (range > pcrs.length) throw new NsmError('InvalidIndex', 'LockPCRs')
        for (const found of pcrs.slice(0, range)) found.locked = true
      }),
      attest: called(({ userData, nonce, publicKey }: NsmFields) => {
        if ((userData?.length ?? 0) > 1000) throw new NsmError('InputTooLarge', 'Attestation')
        return Buffer.from([userData, nonce, publicKey].map(text).join('/'))
      }),
    }
    const evidence = async (reportData: Uint8Array, options?: CallOptions): Promise<Evidence> => {
      const document = await nsm.attest({ userData: reportData }, options)
      return { platform: 'nitro', document, reportData }
    }
    return { tdx: undefined, nsm, evidence, eventLog: async () => [] }
  })
}

type Parts = Pick<Attester, 'tdx' | 'nsm' | 'evidence' | 'eventLog'>

/** A device method of a fake: the same with the fault before it, and its call noted. */
type Called = <Args extends readonly unknown[], Result>(
  work: (...args: Args) => Result,
) => (...args: [...Args, options?: CallOptions]) => Promise<Result>

function fake(platform: 'tdx' | 'nitro', make: (called: Called) => Parts): Fake {
  const calls: Fake['calls'] = []
  const called: Called = (work) => {
    return async (...args) => {
      calls.push((args.length > work.length ? args.at(-1) : undefined) as CallOptions | undefined)
      await made.fault()
      return work(...(args as never))
    }
  }
  const runtimeEvents = { emit: async () => undefined, list: async () => [] }
  const made: Fake = {
    attester: {
      platform,
      simulated: true,
      runtimeEvents,
      cloud: async () => ({ vendor: '', product: '' }),
      ...make(called),
    },
    calls,
    fault: () => undefined,
  }
  return made
}
