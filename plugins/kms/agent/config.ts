import * as v from 'valibot'

/** The table `[plugins.kms.upstream]`: the KMS that an agent has its keys from. */
export const UpstreamConfig = v.strictObject({
  urls: v.pipe(
    v.array(
      v.pipe(
        v.string(),
        v.check(
          (url) => URL.canParse(url) && new URL(url).protocol === 'https:',
          'expected a URL with https',
        ),
      ),
    ),
    v.minLength(1),
    v.maxLength(16),
    v.description('Base URLs of the KMS; the others of its cluster are asked when one is away'),
  ),
  root_ca: v.pipe(
    v.string(),
    v.startsWith('/', 'expected an absolute path'),
    v.description(
      'PEM of the root certificates a KMS may have; one made with other root keys is refused',
    ),
  ),
  deadline_ms: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(100),
      v.maxValue(60_000),
      v.description('How long one KMS may take for an answer, in milliseconds'),
    ),
    10_000,
  ),
})

export type UpstreamConfig = v.InferOutput<typeof UpstreamConfig>
