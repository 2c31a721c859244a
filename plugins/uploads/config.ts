import * as v from 'valibot'

const DEFAULT_MAX_BYTES = 64 * 1024 * 1024

const integer = (min: number, max: number) =>
  v.pipe(v.number(), v.integer(), v.minValue(min), v.maxValue(max))

const FileConfig = v.strictObject({
  path: v.pipe(
    v.string(),
    v.nonEmpty(),
    v.description('The file that is replaced; a relative path counts from the working directory'),
  ),
  mode: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[0-7]{3,4}$/, 'Expected an octal mode such as "0644"'),
      v.description('Permission bits of the new file; absent keeps those of the old one'),
    ),
  ),
  owner: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^[^:\s]+(:[^:\s]+)?$/, 'Expected "user" or "user:group", by name or number'),
      v.description('Owner of the new file; absent keeps that of the old one'),
    ),
  ),
  max_bytes: v.optional(
    v.pipe(
      integer(0, Number.MAX_SAFE_INTEGER),
      v.description('Largest accepted content; 0 for no limit'),
    ),
    DEFAULT_MAX_BYTES,
  ),
  verify: v.optional(
    v.pipe(
      v.array(v.string()),
      v.minLength(1),
      v.description('Program and arguments that must accept the new file; "{file}" is its path'),
    ),
  ),
  verify_timeout_s: v.optional(v.pipe(integer(1, 3600), v.description('Time the program has')), 30),
  keep: v.optional(
    v.pipe(integer(0, 100), v.description('Previous contents kept for a rollback')),
    0,
  ),
  follow_symlinks: v.optional(
    v.pipe(
      v.boolean(),
      v.description('Write through a symbolic or hard link at the path instead of refusing it'),
    ),
    false,
  ),
  idle_timeout_s: v.optional(
    v.pipe(
      integer(0, 3600),
      v.description('An upload is given up when no byte arrives for so long; 0 waits forever'),
    ),
    30,
  ),
  max_parallel: v.optional(
    v.pipe(integer(1, 256), v.description('Uploads to this name at one time; more get 429')),
    16,
  ),
})

/** The table `[plugins.uploads]`. */
export const Config = v.strictObject({
  files: v.optional(
    v.pipe(
      // The name is also the name of a folder in the state directory, where it grows by escapes.
      v.record(v.pipe(v.string(), v.nonEmpty(), v.maxBytes(80)), FileConfig),
      v.description('What may be uploaded, by name'),
    ),
    {},
  ),
})

/** One `[plugins.uploads.files.NAME]`. */
export type FileConfig = v.InferOutput<typeof FileConfig>
