import { z } from 'zod'

/*
 * The requests as the documents show them. Nothing is checked against these: the values balena's
 * supervisor takes are wider than any schema says (spec §3.1).
 */

const Flag = z
  .union([z.boolean(), z.literal(1), z.enum(['1', 'true', 'on'])])
  .optional()
  .describe('Anything else is false')

const Id = z.union([z.int(), z.string().regex(/^-?[0-9]+\.?0*$/)])

export const KeyQuery = z.object({
  apikey: z.string().optional().describe('The key; or the header Authorization: Bearer KEY'),
})

export const AppParam = z.object({ appId: z.string().describe('Number of the app') })

export const ForceBody = z.object({ force: Flag })

export const AppBody = z.object({ appId: Id, force: Flag })

export const UpdateBody = z.object({ force: Flag, cancel: Flag })

export const ServiceBody = z.object({
  serviceName: z.string().optional(),
  imageId: Id.optional().describe('Number of the image in the release'),
  force: Flag,
})

export const HostConfigBody = z.object({
  network: z.object({
    proxy: z
      .object({
        type: z.enum(['socks4', 'socks5', 'http-connect', 'http-relay']).optional(),
        ip: z.string().optional(),
        port: z.int().optional(),
        login: z.string().optional(),
        password: z.string().optional(),
        dns: z.union([z.boolean(), z.string()]).optional(),
        noProxy: z.array(z.string()).optional(),
      })
      .optional(),
    hostname: z.string().optional(),
    force: Flag,
  }),
  force: Flag,
})

export const TagsBody = z.record(z.string(), z.string())

export const JournalBody = z.object({
  all: Flag,
  follow: Flag,
  count: Id.optional(),
  unit: z.string().optional(),
  containerId: z.string().optional(),
  format: z.string().optional(),
  since: z.string().optional(),
  until: z.string().optional(),
})

export const ContainerQuery = KeyQuery.extend({
  service: z.string().optional(),
  serviceName: z.string().optional(),
})

export const CleanupQuery = KeyQuery.extend({
  dryRun: z.string().optional().describe('1 or true: list them and remove nothing'),
})

export const TargetBody = z.looseObject({
  local: z.looseObject({
    name: z.string().optional(),
    config: z.record(z.string(), z.string()).optional(),
    apps: z.record(z.string(), z.looseObject({})),
  }),
  force: Flag,
})

/** A number, or its digits as a shell puts them in quotes. */
const RemoteId = z.union([
  z.int().min(0),
  z
    .string()
    .regex(/^[0-9]{1,15}$/)
    .transform(Number),
])

export const RemoteBody = z.strictObject({
  uuid: z.string().min(1).max(255).optional(),
  deviceId: RemoteId.optional(),
  appId: RemoteId.optional().describe('Every device that has the app'),
  method: z.enum(['GET', 'POST', 'PATCH']).optional(),
  data: z.record(z.string(), z.unknown()).optional(),
})

const Failed = z.object({ status: z.literal('failed'), message: z.string(), code: z.string() })

/** Answers that most routes have beside their own. */
export const REFUSALS = {
  401: { description: 'No key, a wrong one, or not one for this', type: 'text/plain' },
  423: { description: 'An update lock is in the way', schema: Failed },
  503: { description: 'It failed', schema: Failed },
} as const
