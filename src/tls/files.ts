import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import { readFile, rm, stat } from 'node:fs/promises'
import { clearTimeout, setTimeout } from 'node:timers'
import { errnoOf, messageOf } from '../errors.ts'
import type { Level } from '../events/sink.ts'
import { writeFileAtomic } from '../files/atomic-file.ts'
import {
  type ClientTrust,
  type ClientTrustFiles,
  loadClientTrust,
  subjectOf,
} from './client-trust.ts'
import { createSelfSigned, type PemPair } from './self-signed.ts'

/** A pair that was checked: the key belongs to the first certificate of the chain. */
export interface TlsPair extends PemPair {
  /** End of validity of the first certificate, Unix time in milliseconds. */
  readonly expires: number
  /** SHA-256 of the first certificate, 32 bytes as `AB:CD:…`, for pinning. */
  readonly fingerprint: string
  /** Whose certificates clients may show; undefined where they are not asked for one. */
  readonly clients?: ClientTrust
}

/** Where the pair is, and what to do without one. */
export interface TlsFilesOptions {
  readonly certPath: string
  readonly keyPath: string
  /** Make a self-signed pair when both files are missing. */
  readonly createIfMissing: boolean
  /** Names of a pair that is made, see {@link createSelfSigned}. */
  readonly hosts: readonly string[]
  /** Who signs certificates of clients; read and watched as the pair is. */
  readonly clients?: ClientTrustFiles | undefined
  /** Told about a bad replacement and about the coming end of validity. */
  readonly report: (message: string, level: Level) => void
  /** Unix time in milliseconds. */
  readonly now?: () => number
  /** Between two looks at the files, in milliseconds; default 5000. */
  readonly pollMs?: number
}

const MAX_FILE_BYTES = 1024 * 1024
const DAY_MS = 24 * 3600 * 1000
const WARN_MS = 14 * DAY_MS
const SETTLED_MS = 2000

/**
 * The certificate and key of a listener, as two PEM files (system-api's `tls_*` keys), and the
 * files that say whose certificates its clients may show. Replaced files, behind symlinks too, are
 * taken over while running; a bad replacement leaves what is in use and is reported.
 */
export class TlsFiles {
  readonly #options: TlsFilesOptions
  readonly #now: () => number
  #pair: TlsPair | undefined
  /** Identity of the files the pair in use was read from. */
  #used = ''
  /** Identity of the last bad files, and whether that was reported. */
  #bad = { identity: '', reported: false }
  #warnAfter = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  #watching = false

  constructor(options: TlsFilesOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
  }

  /**
   * Reads the pair, making one where that is allowed. To be called once, before listening.
   *
   * @returns Whether it was made now.
   * @throws {Error} When there is none, only one of the two, or they do not fit.
   */
  async load(): Promise<{ pair: TlsPair; created: boolean }> {
    const { certPath, keyPath, createIfMissing } = this.#options
    const present = [await exists(certPath), await exists(keyPath)]
    if (present[0] !== present[1]) {
      throw new Error(
        'both TLS cert and key files are required, but only one exists: ' +
          `"${present[0] ? certPath : keyPath}"`,
      )
    }
    const created = !present[0]
    if (created) {
      if (!createIfMissing) {
        throw new Error(
          'TLS cert and key files do not exist, but config is set to not create them: ' +
            `"${certPath}", "${keyPath}"`,
        )
      }
      await this.#create()
    }
    return { pair: await this.#read(), created }
  }

  /** The pair in use; undefined before {@link load}. */
  get pair(): TlsPair | undefined {
    return this.#pair
  }

  /**
   * Looks at the files now.
   *
   * @returns Whether another pair is in use since.
   * @throws {Error} When the files are bad; the pair in use stays.
   */
  async reload(): Promise<boolean> {
    const before = this.#pair
    const pair = await this.#read()
    return pair.cert !== before?.cert || pair.key !== before.key || pair.clients !== before.clients
  }

  /** Looks at the files every few seconds until {@link stop}, without keeping the process alive. */
  watch(onChange: (pair: TlsPair) => void): void {
    this.#watching = true
    const again = () => {
      if (!this.#watching) return
      this.#timer = setTimeout(async () => {
        await this.#poll(onChange)
        again()
      }, this.#options.pollMs ?? 5000)
      this.#timer.unref()
    }
    again()
  }

  /** Ends {@link watch}; safe without it, and twice. */
  stop(): void {
    this.#watching = false
    clearTimeout(this.#timer)
  }

  async #poll(onChange: (pair: TlsPair) => void): Promise<void> {
    const { identity } = await this.#look()
    if (identity === this.#used) return this.#warn()
    try {
      if (!(await this.reload())) return
    } catch (error) {
      // Two files cannot be replaced at once, so a bad pair counts only when it stays.
      const stays = identity === this.#bad.identity
      if (stays && !this.#bad.reported) {
        this.#options.report(`${messageOf(error)}; the old pair stays in use`, 'error')
      }
      this.#bad = { identity, reported: stays }
      return
    }
    try {
      onChange(this.#pair as TlsPair)
    } catch (error) {
      this.#options.report(`Cannot use the new TLS certificate: ${messageOf(error)}`, 'error')
    }
  }

  async #read(): Promise<TlsPair> {
    const { certPath, keyPath } = this.#options
    // Taken before reading: a change in between is then seen at the next look.
    const { identity, writtenAt } = await this.#look()
    const cert = pemBlocks(await readPem(certPath), CERTIFICATE)
    const key = pemBlocks(await readPem(keyPath), PRIVATE_KEY)
    const clients = this.#options.clients && this.#trust(loadClientTrust(this.#options.clients))
    const pair = { ...checkPair(cert, key, certPath, keyPath), ...(clients && { clients }) }
    if (pair.cert !== this.#pair?.cert || clients !== this.#pair.clients) this.#warnAfter = 0
    this.#pair = pair
    // File times are coarse: one just written may change again and look the same, so read it again.
    this.#used = writtenAt + SETTLED_MS < this.#now() ? identity : ''
    this.#warn()
    return pair
  }

  /** The trust in use where nothing changed, so that nobody is judged again for nothing. */
  #trust(read: ClientTrust): ClientTrust {
    const before = this.#pair?.clients
    return before && before.digest === read.digest ? before : read
  }

  async #create(): Promise<void> {
    const { certPath, keyPath, hosts } = this.#options
    const { cert, key } = createSelfSigned(hosts, this.#now())
    await writeFileAtomic(certPath, cert, 0o600)
    try {
      await writeFileAtomic(keyPath, key, 0o600)
    } catch (error) {
      // A certificate alone would stop every later start.
      await rm(certPath, { force: true })
      throw error
    }
  }

  async #look(): Promise<Look> {
    const { certPath, keyPath, clients } = this.#options
    const looks: Look[] = []
    for (const path of [certPath, keyPath, clients?.client_ca, clients?.client_crl]) {
      if (path !== undefined) looks.push(await lookAt(path))
    }
    return {
      identity: looks.map(({ identity }) => identity).join(' '),
      writtenAt: Math.max(...looks.map(({ writtenAt }) => writtenAt)),
    }
  }

  #warn(): void {
    const now = this.#now()
    if (now < this.#warnAfter) return
    for (const [what, expires] of this.#ends()) {
      const left = expires - now
      if (left > WARN_MS) continue
      this.#warnAfter = now + DAY_MS
      const when =
        left <= 0 ? 'has expired' : `expires in ${Math.ceil(left / DAY_MS)} days, replace it`
      this.#options.report(`${what} ${when}`, left <= 0 ? 'error' : 'warn')
    }
  }

  /** What is in use, and when it ends. */
  #ends(): [what: string, expires: number][] {
    const { certPath, clients } = this.#options
    const { expires = 0, clients: trust } = this.#pair ?? {}
    const ends: [string, number][] = [[`TLS certificate "${certPath}"`, expires]]
    if (!clients || !trust) return ends
    for (const authority of trust.authorities) {
      const name = `Client authority "${subjectOf(authority)}" in "${clients.client_ca}"`
      ends.push([name, authority.notAfter])
    }
    for (const { nextUpdate } of trust.crls ?? []) {
      // A list is made for days or weeks, so only its end is worth a word.
      if (nextUpdate > this.#now()) continue
      ends.push([`Revocation list in "${clients.client_crl}"`, nextUpdate])
    }
    return ends
  }
}

/**
 * Parses a pair and checks that they belong together.
 *
 * @throws {Error} Naming the file at fault, never quoting the key.
 */
function checkPair(cert: string, key: string, certPath: string, keyPath: string): TlsPair {
  let certificate: X509Certificate
  let publicKey: Buffer
  try {
    certificate = new X509Certificate(cert)
  } catch {
    throw new Error(`Cannot use TLS certificate "${certPath}": it is not a PEM certificate`)
  }
  try {
    publicKey = createPublicKey(createPrivateKey(key)).export({ type: 'spki', format: 'der' })
  } catch {
    throw new Error(`Cannot use TLS key "${keyPath}": it is not an unencrypted PEM private key`)
  }
  if (!certificate.publicKey.export({ type: 'spki', format: 'der' }).equals(publicKey)) {
    throw new Error(
      `Cannot use TLS key "${keyPath}": it does not belong to the certificate "${certPath}"`,
    )
  }
  const expires = Date.parse(certificate.validTo)
  return { cert, key, expires, fingerprint: certificate.fingerprint256 }
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g
const PRIVATE_KEY = /-----BEGIN ([A-Z]+ )?PRIVATE KEY-----[^-]+-----END ([A-Z]+ )?PRIVATE KEY-----/g

/** The blocks of one kind: not all runtimes skip what else a PEM file may hold, or text. */
function pemBlocks(text: string, kind: RegExp): string {
  return (text.match(kind) ?? []).map((block) => `${block}\n`).join('')
}

async function readPem(path: string): Promise<string> {
  const found = await stat(path)
  if (!found.isFile() || found.size > MAX_FILE_BYTES) {
    throw new Error(`Cannot read "${path}": it is not a file of at most ${MAX_FILE_BYTES} bytes`)
  }
  return readFile(path, 'utf8')
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}

/** What tells a file from its successor, and when it was last written (Unix milliseconds). */
interface Look {
  readonly identity: string
  readonly writtenAt: number
}

async function lookAt(path: string): Promise<Look> {
  try {
    const { ino, size, mtimeMs, ctimeMs } = await stat(path)
    return { identity: `${ino}:${size}:${mtimeMs}:${ctimeMs}`, writtenAt: mtimeMs }
  } catch (error) {
    return { identity: errnoOf(error) ?? 'unknown', writtenAt: 0 }
  }
}
