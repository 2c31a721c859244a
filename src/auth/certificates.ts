import * as v from 'valibot'
import type { Caller } from '../plugin.ts'
import type { ClientCertificate } from '../tls/client-certificate.ts'
import { KeyName, KeyScopes } from './key-file.ts'
import { once, type Recogniser } from './recogniser.ts'

/** Entries of `[[auth.certificates]]`. */
export const MAX_CERTIFICATES = 1000

const hex = (description: string) =>
  v.pipe(
    v.string(),
    // As openssl prints it, too.
    v.transform((text) => text.replaceAll(':', '').toLowerCase()),
    v.regex(/^[0-9a-f]{64}$/, 'expected the 64 hex digits of a SHA-256'),
    v.description(description),
  )

const name = (description: string) =>
  v.pipe(v.string(), v.nonEmpty(), v.maxLength(1024), v.description(description))

/** What a certificate can be told by. */
const IDENTITIES = {
  sha256: v.optional(hex('SHA-256 of the certificate')),
  key_sha256: v.optional(hex('SHA-256 of its public key, which outlives a renewal')),
  common_name: v.optional(name('Common name of its subject')),
  uri: v.optional(name('A URI among its alternative names')),
  dns: v.optional(name('A DNS name among its alternative names')),
  email: v.optional(name('An email address among its alternative names')),
}

const KINDS = Object.keys(IDENTITIES) as (keyof typeof IDENTITIES)[]

/** One `[[auth.certificates]]` table: who shows this certificate is that caller. */
export const KnownCertificate = v.pipe(
  v.strictObject({
    name: v.pipe(KeyName, v.description('Name of the caller')),
    scopes: v.pipe(KeyScopes, v.description('What the caller may do')),
    ...IDENTITIES,
  }),
  v.check((entry) => identities(entry).length === 1, `give one of ${KINDS.join(', ')}`),
)

export type KnownCertificate = v.InferOutput<typeof KnownCertificate>

type Entry = { readonly [Kind in keyof typeof IDENTITIES]?: string | undefined }

function identities(entry: Entry): string[] {
  return KINDS.flatMap((kind) => (entry[kind] === undefined ? [] : [`${kind}:${entry[kind]}`]))
}

/** What an entry is looked up by, as a {@link ClientCertificate} names it. */
export function identityOf(entry: KnownCertificate): string {
  return identities(entry)[0] as string
}

/**
 * Whom the certificates of clients stand for. Of several entries that fit one, the first counts.
 *
 * @param now Unix time in milliseconds.
 */
export function recogniseCertificates(
  entries: readonly KnownCertificate[],
  now: () => number = Date.now,
): Recogniser {
  const callers = new Map<string, { readonly rank: number; readonly caller: Caller }>()
  for (const [rank, entry] of entries.entries()) {
    const { name, scopes } = entry
    const identity = identityOf(entry)
    if (!callers.has(identity)) {
      callers.set(identity, { rank, caller: { kind: 'certificate', name, scopes } })
    }
  }
  const callerOf = once(({ identities }: ClientCertificate) => {
    const found = identities.flatMap((identity) => callers.get(identity) ?? [])
    return found.sort((a, b) => a.rank - b.rank)[0]?.caller
  })
  return (exchange) => {
    const certificate = exchange.certificate()
    if (certificate === undefined) return undefined
    const refused = certificate.refusal(now())
    if (refused !== undefined) return { refused }
    const caller = callerOf(certificate)
    return caller ? { caller } : { refused: "The client certificate is nobody's who is known here" }
  }
}
