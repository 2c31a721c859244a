import { z } from 'zod'
import { lazySchema } from '../../src/lazy-schema.ts'
import type { Stored, Upload } from './upload.ts'

const Sha256 = lazySchema(() => z.string().describe('SHA-256 in hex'))
const Time = lazySchema(() => z.string().describe('RFC 3339'))

/** Answer of a replacement. */
export const StoredJson = lazySchema(() =>
  z.object({
    name: z.string(),
    path: z.string(),
    size_bytes: z.number(),
    sha256: Sha256,
    replaced: z.boolean().describe('Whether there was a file before'),
    atomic: z.boolean().describe('False where the old file had to be overwritten in place'),
  }),
)

/** One file as it is; null where there is none or it cannot be read. */
export const DescriptionJson = lazySchema(() =>
  z.object({
    name: z.string(),
    path: z.string(),
    size_bytes: z.number().nullable(),
    sha256: Sha256.nullable(),
    mode: z.string().nullable().describe('Octal permission bits'),
    modified_at: Time.nullable(),
    max_bytes: z.number().describe('0 for no limit'),
    versions: z
      .array(z.object({ sha256: Sha256, size_bytes: z.number(), replaced_at: Time }))
      .describe('Previous contents, newest first'),
    problem: z.string().nullable().describe('Why an upload would fail just now'),
  }),
)

export const ListJson = lazySchema(() => z.object({ uploads: z.array(DescriptionJson) }))

/** {@link Stored} as JSON. */
export function storedJson(upload: Upload, stored: Stored): z.output<typeof StoredJson> {
  const { size, sha256, replaced, atomic } = stored
  return {
    name: upload.name,
    path: upload.config.path,
    size_bytes: size,
    sha256,
    replaced,
    atomic,
  }
}

/** The present state of an upload's file as JSON. */
export async function describe(upload: Upload): Promise<z.output<typeof DescriptionJson>> {
  const { size, sha256, mode, modifiedAt, versions, problem } = await upload.describe()
  return {
    name: upload.name,
    path: upload.config.path,
    size_bytes: size ?? null,
    sha256: sha256 ?? null,
    mode: mode ?? null,
    modified_at: modifiedAt === undefined ? null : new Date(modifiedAt).toISOString(),
    max_bytes: upload.config.max_bytes,
    versions: versions.map((version) => ({
      sha256: version.sha256,
      size_bytes: version.size,
      replaced_at: new Date(version.replacedAt).toISOString(),
    })),
    problem: problem ?? null,
  }
}
