import * as v from 'valibot'

const path = (text: string) =>
  v.optional(
    v.pipe(v.string(), v.startsWith('/', 'expected an absolute path'), v.description(text)),
  )

/** The table `[plugins.kms.trust]`: whose evidence is believed. */
export const TrustConfig = v.strictObject({
  tdx_root: path('PEM of the anchor of quotes; default: the Intel SGX Root CA'),
  nitro_root: path('PEM of the anchor of documents; default: the root of AWS Nitro Enclaves'),
  collateral: path('A file of collateral, or a folder of them; read again when it changes'),
  pccs_url: v.optional(
    v.pipe(
      v.string(),
      v.check(
        (url) => /^https?:$/.test(URL.canParse(url) ? new URL(url).protocol : ''),
        'expected a URL with http or https',
      ),
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
