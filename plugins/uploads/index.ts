import { dirname, join, resolve } from 'node:path'
import { type Context, Hono } from 'hono'
import { z } from 'zod'
import { lastSegment, systemApiError } from '../../src/compat/system-api.ts'
import { ApiError, problem } from '../../src/errors.ts'
import { removeLeftOvers } from '../../src/files/atomic-file.ts'
import { definePlugin, type PluginEnv, type RoutesOf } from '../../src/plugin.ts'
import { route } from '../../src/route.ts'
import { validate } from '../../src/validate.ts'
import { entityTag, promisedSha256 } from './conditions.ts'
import { Config } from './config.ts'
import { UploadFailure } from './failure.ts'
import { Lock } from './lock.ts'
import type { Incoming } from './receive.ts'
import { skipRest } from './skip-rest.ts'
import { SystemApiJson, systemApiFailure, systemApiStored } from './system-api.ts'
import { type Guards, type Stored, Upload } from './upload.ts'
import { DescriptionJson, describe, ListJson, StoredJson, storedJson } from './view.ts'

const Name = z.object({ name: z.string().min(1).describe('A configured name') })

const GuardHeaders = z.object({
  'if-match': z.string().optional().describe('Replace only this content: "<sha256>"'),
  'if-none-match': z.string().optional().describe('* creates only'),
  'content-digest': z.string().optional().describe('sha-256=:BASE64: of the body, RFC 9530'),
  'repr-digest': z.string().optional().describe('The same: uploads are stored as sent'),
})

const RollbackQuery = z.object({
  to: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional()
    .describe('SHA-256 of the version to put back; default the newest'),
})

const uploads = definePlugin({
  name: 'uploads',
  summary: 'Replaces configured files by what operators upload, atomically',
  config: Config,
  exposure: 'network',
  permissions: ({ files }) => {
    const all = Object.values(files)
    const folders = all.map(({ path }) => dirname(resolve(path)))
    const named = all.some(({ owner }) => owner !== undefined && /[^\d:]/.test(owner))
    const programs = all.flatMap(({ verify }) => verify?.slice(0, 1) ?? [])
    return {
      read: [...folders, ...(named ? ['/etc/passwd', '/etc/group'] : [])],
      write: folders,
      // Ends a program that ran too long where the runtime may not signal its group itself.
      run: programs.length > 0 ? [...programs, '/bin/kill'] : [],
      // Read by Deno itself whenever it starts a process.
      env: programs.length > 0 ? ['NODE_V8_COVERAGE'] : [],
    }
  },
  renderError: (error, c) =>
    c.req.path.startsWith('/cvmd/') ? problem(error) : systemApiError(error),
  setup({ config, stateDir, events, metrics, signal }) {
    const parts = { stateDir, signal, lock: new Lock() }
    const byName = new Map(
      Object.entries(config.files).map(([name, file]) => [name, new Upload(name, file, parts)]),
    )
    const total = metrics.counter('cvmd_uploads_total', 'Uploads by name and outcome.')
    const bytes = metrics.counter('cvmd_upload_bytes_total', 'Bytes put in place, by name.')

    /** Counts how a replacement ends. */
    const counted = async (name: string, work: Promise<Stored>): Promise<Stored> => {
      try {
        const stored = await work
        total.inc({ name, outcome: 'stored' })
        bytes.inc({ name }, stored.size)
        return stored
      } catch (thrown) {
        total.inc({ name, outcome: thrown instanceof UploadFailure ? thrown.kind : 'internal' })
        throw thrown
      }
    }

    /** Does native work, and records it. */
    const native = async (upload: Upload, what: string, work: Promise<Stored>) => {
      const { name } = upload
      try {
        const stored = await counted(name, work)
        events.append(
          `upload ${name} ${what}: ${upload.config.path}, ` +
            `${stored.size} bytes, sha256 ${stored.sha256}`,
        )
        return stored
      } catch (thrown) {
        if (!(thrown instanceof UploadFailure)) throw thrown
        events.append(`upload ${name} failed: ${thrown.message}`, { level: 'warn' })
        throw thrown.api
      }
    }

    const find = (name: string): Upload => {
      const upload = byName.get(name)
      if (upload) return upload
      throw new ApiError(
        404,
        'UPLOAD_NOT_FOUND',
        `Cannot find upload "${name}": add [plugins.uploads.files.${JSON.stringify(name)}]`,
      )
    }

    const routes = new Hono<PluginEnv>()
      .post(
        '/api/v1/file-upload/:name',
        route({
          summary: 'Replace a file, as system-api',
          scope: 'uploads:write:{name}',
          body: 'stream',
          long: true,
          head: false,
          answers: { 200: { description: 'Replaced', schema: SystemApiJson } },
        }),
        skipRest,
        validate('param', Name),
        validate('header', GuardHeaders),
        async (c) => {
          const name = lastSegment(c)
          const upload = byName.get(name)
          if (!upload) {
            throw new ApiError(400, 'UPLOAD_NOT_FOUND', 'Specified file upload not configured')
          }
          const subject = `${name} = ${upload.config.path}`
          const guards = guardsOf(c.req.valid('header'))
          events.append(`[system-api] file upload: ${subject}`)
          try {
            const { size, sha256 } = await counted(name, upload.put(incomingOf(c), guards))
            events.append(`[system-api] file upload success: ${subject} - content: ${size} bytes`)
            return systemApiStored(upload.config.path, size, sha256)
          } catch (thrown) {
            if (!(thrown instanceof UploadFailure)) throw thrown
            const { event, error } = systemApiFailure(thrown)
            events.append(
              `[system-api] file upload error (${event}): ${subject} - error: ${thrown.message}`,
              { level: 'warn' },
            )
            throw error
          }
        },
      )
      .get(
        '/cvmd/uploads',
        route({
          summary: 'List what can be uploaded',
          long: true,
          answers: { 200: { description: 'All names', schema: ListJson } },
        }),
        async (c) => {
          const all = [...byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
          const list = []
          // One by one: each may be a file to hash.
          for (const upload of all) list.push(await describe(upload))
          return c.json({ uploads: list })
        },
      )
      .get(
        '/cvmd/uploads/:name',
        route({
          summary: 'Show one file and its versions',
          long: true,
          answers: { 200: { description: 'The file', schema: DescriptionJson } },
        }),
        validate('param', Name),
        async (c) => {
          const description = await describe(find(c.req.valid('param').name))
          if (description.sha256) c.header('etag', entityTag(description.sha256))
          return c.json(description)
        },
      )
      .put(
        '/cvmd/uploads/:name',
        route({
          summary: 'Replace a file by the body',
          scope: 'uploads:write:{name}',
          body: 'stream',
          long: true,
          answers: {
            200: { description: 'Replaced', schema: StoredJson },
            201: { description: 'Created', schema: StoredJson },
          },
        }),
        skipRest,
        validate('param', Name),
        validate('header', GuardHeaders),
        async (c) => {
          const upload = find(c.req.valid('param').name)
          if (c.req.header('content-range') !== undefined) {
            throw new ApiError(
              400,
              'CONTENT_RANGE_UNSUPPORTED',
              `Cannot replace a part of upload "${upload.name}": send the whole content`,
            )
          }
          const guards = guardsOf(c.req.valid('header'))
          const stored = await native(upload, 'stored', upload.put(incomingOf(c), guards))
          c.header('etag', entityTag(stored.sha256))
          return c.json(storedJson(upload, stored), stored.replaced ? 200 : 201)
        },
      )
      .post(
        '/cvmd/uploads/:name/rollback',
        route({
          summary: 'Put a previous content back',
          scope: 'uploads:write:{name}',
          long: true,
          answers: { 200: { description: 'Put back', schema: StoredJson } },
        }),
        validate('param', Name),
        validate('query', RollbackQuery),
        async (c) => {
          const upload = find(c.req.valid('param').name)
          const { to } = c.req.valid('query')
          const stored = await native(upload, 'rolled back', upload.rollback(to))
          c.header('etag', entityTag(stored.sha256))
          return c.json(storedJson(upload, stored))
        },
      )

    return {
      routes,
      start: async () => {
        await removeLeftOvers(join(stateDir, 'spool'))
        await Promise.all([...byName.values()].map((upload) => upload.start()))
      },
      stop: async () => {
        await Promise.all([...byName.values()].map((upload) => upload.idle()))
      },
    }
  },
})

export default uploads

/** For `hc<UploadsApi>('http://127.0.0.1:3535')`. */
export type UploadsApi = RoutesOf<typeof uploads>

function guardsOf(headers: z.output<typeof GuardHeaders>): Guards {
  return {
    conditions: { ifMatch: headers['if-match'], ifNoneMatch: headers['if-none-match'] },
    promised: promisedSha256(headers['content-digest'] ?? headers['repr-digest']),
  }
}

function incomingOf(c: Context<PluginEnv>): Incoming {
  const length = c.req.header('content-length')
  const { listener } = c.env
  const peer = c.env.peer()
  return {
    body: c.req.raw.body,
    declared: length === undefined ? undefined : Number(length),
    connection: listener.startsWith('unix:')
      ? `read unix ${listener.slice('unix:'.length)}->@`
      : `read tcp ${listener}->${peer.address}:${peer.port}`,
  }
}
