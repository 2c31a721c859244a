import * as v from 'valibot'

const path = (text: string) =>
  v.optional(
    v.pipe(v.string(), v.startsWith('/', 'expected an absolute path'), v.description(text)),
  )

const parsed = (text: string): URL | undefined => (URL.canParse(text) ? new URL(text) : undefined)

/** The table `[plugins.kms.trust]`: whose evidence is believed. */
export const TrustConfig = v.strictObject({
  tdx_root: path('PEM of the anchor of quotes; default: the Intel SGX Root CA'),
  nitro_root: path('PEM of the anchor of documents; default: the root of AWS Nitro Enclaves'),
  collateral: path('A file of collateral, or a folder of them; read again when it changes'),
  pccs_url: v.optional(
    v.pipe(
      v.string(),
      v.check(
        (url) => /^https?:$/.test(parsed(url)?.protocol ?? ''),
        'expected a URL with http or https',
      ),
      v.check(
        (url) => !parsed(url)?.username && !parsed(url)?.password,
        'a URL may not hold credentials',
      ),
      v.check((url) => !/[?#]/.test(url), 'expected a URL without query'),
      v.description("Base URL of a PCCS, or of Intel's own service, for platforms without a file"),
    ),
  ),
  pccs_ca_file: path('PEM of the authorities that may have signed its certificate'),
  require_sept_ve_disable: v.optional(
    v.pipe(
      v.boolean(),
      v.description('Refuse TDs that the host can stop at will; some clouds start them all so'),
    ),
    true,
  ),
})

export type TrustConfig = v.InferOutput<typeof TrustConfig>
