import type { Context, Hono } from 'hono'
import { z } from 'zod'
import { callOf } from '../../src/attester/call.ts'
import { deviceProblem } from '../../src/attester/problems.ts'
import { wrongPlatform } from '../../src/attester/wrong-platform.ts'
import { bytesField, hex } from '../../src/compat/prpc/bytes.ts'
import { prpcMethod } from '../../src/compat/prpc/method.ts'
import { padReportData, prpcJson } from '../../src/compat/prpc.ts'
import { ApiError } from '../../src/errors.ts'
import type { PluginEnv } from '../../src/plugin.ts'
import type { RouteFacts } from '../../src/route.ts'
import { VERSION } from '../../src/version.ts'
import { appInfo, appInfoV1 } from './info.ts'
import { type GuestParts, MAKES_EVIDENCE } from './parts.ts'
import { assertFreeName } from './system-events.ts'

const AttestRequest = z.object({
  report_data: bytesField('At most 64 bytes, zeros are added at the end'),
})

const AttestRequestV1 = AttestRequest.extend({
  include_boottime_gpu_evidence: z.boolean().default(false),
})

const EventRequest = z.object({
  event: z.string().default('').describe('Name of the event'),
  payload: bytesField('What is measured under that name'),
})

/** `v<version>` of the program and the revision it was built from, which a release leaves empty. */
export const VERSION_ANSWER = { version: VERSION, rev: '' } as const

const CONTAINER: RouteFacts = {
  summary: 'Evidence, event log and configuration in one container',
  exposure: 'local',
  ...MAKES_EVIDENCE,
}

/** The calls of the guest agent on the application's socket: unversioned, v0 and v1. */
export function localMethods(app: Hono<PluginEnv>, parts: GuestParts): void {
  const { attester, config, events, identity, facts } = parts
  const both = (method: string) => [`/${method}`, `/v0/${method}`]

  prpcMethod(app, {
    paths: [...both('Version'), '/v1/Version'],
    request: undefined,
    facts: { summary: 'Version of the agent', exposure: 'local' },
    answer: () => prpcJson(VERSION_ANSWER),
  })

  prpcMethod(app, {
    paths: both('Info'),
    request: undefined,
    facts: { summary: 'Application and machine, with registers and event log', exposure: 'local' },
    answer: async (_, c) => {
      const found = await asked(facts.read(identity(), callOf(c)))
      return prpcJson(appInfo(identity(), found, true))
    },
  })

  prpcMethod(app, {
    paths: ['/v1/Info'],
    request: undefined,
    facts: { summary: 'Application and machine', exposure: 'local' },
    answer: async (_, c) => {
      const found = await asked(facts.read(identity(), callOf(c)))
      return prpcJson(appInfoV1(identity(), found, true))
    },
  })

  const attest = async (reportData: Uint8Array, c: Context<PluginEnv>) => {
    const padded = padReportData(reportData)
    // The formats of containers are not needed to start.
    const [{ attestation }, { writeContainer }] = await Promise.all([
      import('../../src/attester/attestation.ts'),
      import('../../src/attest/container.ts'),
    ])
    const made = attestation(attester, padded, identity().vmConfig, callOf(c))
    return writeContainer(await asked(made))
  }

  prpcMethod(app, {
    paths: both('Attest'),
    request: AttestRequest,
    facts: CONTAINER,
    answer: async ({ report_data }, c) =>
      prpcJson({ attestation: hex(await attest(report_data, c)) }),
  })

  prpcMethod(app, {
    paths: ['/v1/Attest'],
    request: AttestRequestV1,
    facts: CONTAINER,
    answer: async ({ report_data, include_boottime_gpu_evidence: gpu }, c) => {
      if (gpu) {
        const why = 'Cannot add evidence of GPUs: none was taken when this machine booted'
        throw new ApiError(400, 'GPU_EVIDENCE_MISSING', why)
      }
      const bytes = await attest(report_data, c)
      return prpcJson({ attestation: hex(bytes), boottime_gpu_evidence: [] })
    },
  })

  prpcMethod(app, {
    paths: both('EmitEvent'),
    request: EventRequest,
    facts: {
      summary: 'Measures an event into RTMR3',
      exposure: 'local',
      sideEffect: true,
      ...MAKES_EVIDENCE,
    },
    answer: async ({ event, payload }, c) => {
      if (!config.emit_event) {
        const why =
          'Cannot measure an event: emit_event is off in [plugins.guest]; bind data by report_data'
        throw new ApiError(400, 'EVENTS_OFF', why)
      }
      assertFreeName(event)
      await asked(attester.runtimeEvents.emit(event, payload, callOf(c)))
      events.append(`application measured the event ${JSON.stringify(event)}`)
      return prpcJson()
    },
  })

  // The other platform's plugin does not run here, so that its call would not be found.
  const refuse = (method: string, wanted: string) =>
    prpcMethod(app, {
      paths: both(method),
      request: undefined,
      facts: { summary: 'Names the call this platform has in its place', exposure: 'local' },
      answer: () => {
        throw wrongPlatform(attester, wanted)
      },
    })
  if (attester.nsm && !attester.tdx) refuse('GetQuote', 'make a TDX quote')
  if (attester.tdx && !attester.nsm) refuse('GetAttestation', 'make a Nitro attestation document')
}

/** What a device call gives, its failure in words of HTTP. */
export async function asked<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    throw deviceProblem(error)
  }
}
