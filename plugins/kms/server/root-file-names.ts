/**
 * The files of dstack's `cert_dir` that outlive a start (spec dstack §9.5), in the order they are
 * written: keys first, what tells of them last. Those without `secret` may be read by everybody.
 */
export const ROOT_FILES = [
  { name: 'root-ca.key', secret: true, required: true },
  { name: 'root-k256.key', secret: true, required: true },
  { name: 'tmp-ca.key', secret: true, required: true },
  { name: 'root-ca.crt', secret: false, required: true },
  { name: 'tmp-ca.crt', secret: false, required: true },
  { name: 'rpc-domain', secret: false, required: true },
  { name: 'bootstrap-info.json', secret: false, required: false },
] as const

/** Everything that is about to be written, in one file, as long as it is not. */
export const PENDING = 'root-keys.pending'

/** Which version of the root keys is the current one; without it, version 0. */
export const CURRENT = 'root-current'

/**
 * Highest version of root keys. It bounds what a start reads, and what goes to another KMS in one
 * answer; somebody who rotates each month has eight years.
 */
export const MAX_ROOT_VERSION = 99

/** Root keys of a version above 0, as they were made. */
export const versionFile = (version: number): `root-v${number}.json` => `root-v${version}.json`

/** Their certificate, where it was renewed since. */
export const versionCertificate = (version: number): `root-v${number}.crt` => `root-v${version}.crt`

/** A file of root keys. */
export type RootFileName =
  | (typeof ROOT_FILES)[number]['name']
  | ReturnType<typeof versionFile>
  | ReturnType<typeof versionCertificate>
  | typeof CURRENT

export function isRootFile(name: string): name is RootFileName {
  return name === CURRENT || versionOf(name) !== undefined || fixed(name) !== undefined
}

/** Whether nobody but the owner may have access. */
export function isSecretFile(name: string): boolean {
  if (name === PENDING || name === CURRENT || name.endsWith('.json')) return !fixed(name)
  return fixed(name)?.secret ?? false
}

/** The version whose file it is, 1 or higher. */
export function versionOf(name: string): number | undefined {
  const [, digits] = /^root-v([1-9]\d?)\.(?:json|crt)$/.exec(name) ?? []
  return digits === undefined ? undefined : Number(digits)
}

/** Where a file stands among those that are written together. */
export function orderOf(name: RootFileName): number {
  if (name === CURRENT) return Number.POSITIVE_INFINITY
  const version = versionOf(name)
  if (version !== undefined) return ROOT_FILES.length + 2 * version + Number(name.endsWith('.crt'))
  return ROOT_FILES.findIndex((file) => file.name === name)
}

const fixed = (name: string) => ROOT_FILES.find((file) => file.name === name)
