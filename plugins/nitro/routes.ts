import { type Context, Hono } from 'hono'
import type { z } from 'zod'
import { callOf } from '../../src/attester/call.ts'
import { prpcBody, prpcQuery } from '../../src/compat/prpc/arguments.ts'
import { base64, hex } from '../../src/compat/prpc/bytes.ts'
import { prpcJson } from '../../src/compat/prpc.ts'
import type { PluginEnv } from '../../src/plugin.ts'
import { type RouteFacts, route } from '../../src/route.ts'
import { validate } from '../../src/validate.ts'
import {
  AttestationAnswer,
  AttestationRequest,
  ExtendAnswer,
  ExtendBody,
  fieldsOf,
  LockAnswer,
  LockBody,
  ModuleAnswer,
  moduleAnswer,
  PcrAnswer,
  PcrListAnswer,
  PcrParam,
  pcrAnswer,
} from './messages.ts'
import type { Module } from './module.ts'

/**
 * Whoever may attest chooses what this enclave vouches for, so reading is not enough; and nobody
 * would read the document behind a HEAD.
 */
const ATTESTING: Pick<RouteFacts, 'scope' | 'head' | 'answers'> = {
  scope: 'nitro:attest',
  head: false,
  answers: { 200: { description: 'The document', schema: AttestationAnswer } },
}

/** Routes for applications, in dstack's dialect, and for operators below `/cvmd/nitro`. */
export function nitroRoutes(module: Module) {
  const attest = async (
    request: z.output<typeof AttestationRequest>,
    c: Context<PluginEnv>,
  ): Promise<Response> => {
    const document = await module.attest(fieldsOf(request), callOf(c))
    return prpcJson({ document: base64(document) })
  }

  return new Hono<PluginEnv>()
    .get(
      '/GetAttestation',
      route({ ...ATTESTING, summary: 'An attestation document with the given fields' }),
      prpcQuery(AttestationRequest),
      (c) => attest(c.req.valid('query'), c),
    )
    .post(
      '/GetAttestation',
      route({ ...ATTESTING, summary: 'The same by POST' }),
      prpcBody(AttestationRequest),
      (c) => attest(c.req.valid('json'), c),
    )
    .get(
      '/cvmd/nitro',
      route({
        summary: 'What the module says of itself',
        answers: { 200: { description: 'Version, identity, locked PCRs', schema: ModuleAnswer } },
      }),
      async (c) => {
        const found = await module.ask('describe the module', (nsm) => nsm.describe(callOf(c)))
        return c.json(moduleAnswer(found))
      },
    )
    .get(
      '/cvmd/nitro/random',
      route({
        summary: 'Random bytes of the module',
        answers: { 200: { description: '256 bytes', type: 'application/octet-stream' } },
      }),
      async (c) => {
        const bytes = await module.ask('read random bytes', (nsm) => nsm.random(callOf(c)))
        return c.body(new Uint8Array(bytes), 200, {
          'content-type': 'application/octet-stream',
          'content-length': String(bytes.length),
          'cache-control': 'no-store',
        })
      },
    )
    .get(
      '/cvmd/nitro/pcrs',
      route({
        summary: 'All PCRs',
        answers: { 200: { description: 'In order', schema: PcrListAnswer } },
      }),
      async (c) => {
        const pcrs = await module.pcrs(callOf(c))
        return c.json({ pcrs: pcrs.map(({ index, state }) => pcrAnswer(index, state)) })
      },
    )
    .post(
      '/cvmd/nitro/pcrs/lock',
      route({
        summary: 'Lock PCRs from 0 up, until the enclave ends',
        scope: 'nitro:lock',
        answers: { 200: { description: 'Locked', schema: LockAnswer } },
      }),
      prpcBody(LockBody),
      async (c) => {
        const { range } = c.req.valid('json')
        await module.change(
          `lock PCRs 0 to ${range - 1}`,
          (nsm) => nsm.lockPcrs(range, callOf(c)),
          () => `PCRs 0 to ${range - 1} locked`,
        )
        return c.json({ locked: Array.from({ length: range }, (_, index) => index) })
      },
    )
    .get(
      '/cvmd/nitro/pcrs/:index',
      route({
        summary: 'One PCR',
        answers: { 200: { description: 'Value and lock', schema: PcrAnswer } },
      }),
      validate('param', PcrParam),
      async (c) => {
        const { index } = c.req.valid('param')
        const state = await module.ask('read a PCR', (nsm) => nsm.describePcr(index, callOf(c)))
        return c.json(pcrAnswer(index, state))
      },
    )
    .post(
      '/cvmd/nitro/pcrs/:index/extend',
      route({
        summary: 'Extend a PCR: SHA-384 of its value and the data',
        scope: 'nitro:extend',
        answers: { 200: { description: 'The new value', schema: ExtendAnswer } },
      }),
      validate('param', PcrParam),
      prpcBody(ExtendBody),
      async (c) => {
        const { index } = c.req.valid('param')
        const { data } = c.req.valid('json')
        const value = await module.change(
          `extend PCR ${index}`,
          (nsm) => nsm.extendPcr(index, data, callOf(c)),
          (now) => `PCR ${index} extended with ${data.length} bytes, now ${hex(now)}`,
        )
        return c.json({ index, value: hex(value) })
      },
    )
    .post(
      '/cvmd/nitro/pcrs/:index/lock',
      route({
        summary: 'Lock a PCR until the enclave ends',
        scope: 'nitro:lock',
        answers: { 200: { description: 'Locked', schema: LockAnswer } },
      }),
      validate('param', PcrParam),
      async (c) => {
        const { index } = c.req.valid('param')
        await module.change(
          `lock PCR ${index}`,
          (nsm) => nsm.lockPcr(index, callOf(c)),
          () => `PCR ${index} locked`,
        )
        return c.json({ locked: [index] })
      },
    )
}
