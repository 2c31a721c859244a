import assert from 'node:assert/strict'
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { TlsFiles, type TlsFilesOptions, type TlsPair } from '../src/tls/files.ts'
import { createSelfSigned, type PemPair } from '../src/tls/self-signed.ts'
import { certificatePem } from '../src/x509/issue.ts'
import { certify, type Issued } from './helpers/certificates.ts'
import { crlOf } from './helpers/client-pki.ts'

const DAY_MS = 24 * 3600 * 1000

interface Rig {
  readonly folder: string
  readonly certPath: string
  readonly keyPath: string
  readonly reports: string[]
  readonly clock: { now: number }
  files(options?: Partial<TlsFilesOptions>): TlsFiles
  write(pair: Partial<PemPair>): void
}

async function withRig(work: (rig: Rig) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-tls-'))
  const [certPath, keyPath] = [join(folder, 'cert.pem'), join(folder, 'key.pem')]
  const reports: string[] = []
  const clock = { now: Date.now() }
  const made: TlsFiles[] = []
  try {
    await work({
      folder,
      certPath,
      keyPath,
      reports,
      clock,
      files: (options = {}) => {
        const files = new TlsFiles({
          certPath,
          keyPath,
          createIfMissing: false,
          hosts: ['localhost'],
          report: (message, level) => reports.push(`${level}: ${message}`),
          now: () => clock.now,
          pollMs: 10,
          ...options,
        })
        made.push(files)
        return files
      },
      write: ({ cert, key }) => {
        if (cert !== undefined) writeFileSync(certPath, cert)
        if (key !== undefined) writeFileSync(keyPath, key)
      },
    })
  } finally {
    for (const files of made) files.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Waits until something is so, for at most ten seconds. */
async function until(what: () => boolean): Promise<void> {
  for (const end = performance.now() + 10_000; !what(); ) {
    assert.ok(performance.now() < end, 'it did not happen within ten seconds')
    await sleep(5)
  }
}

const fresh = (now = Date.now()) => createSelfSigned(['localhost'], now)

test('a missing pair is made where that is allowed, both files with mode 0600', () =>
  withRig(async ({ files, certPath, keyPath, clock }) => {
    const first = await files({ createIfMissing: true }).load()
    assert.equal(first.created, true)
    for (const path of [certPath, keyPath]) assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.equal(readFileSync(certPath, 'utf8'), first.pair.cert)
    assert.equal(readFileSync(keyPath, 'utf8'), first.pair.key)
    assert.ok(Math.abs(first.pair.expires - clock.now - 365 * DAY_MS) <= 1000)
    assert.match(first.pair.fingerprint, /^([0-9A-F]{2}:){31}[0-9A-F]{2}$/)
    const again = await files({ createIfMissing: true }).load()
    assert.equal(again.created, false)
    assert.deepEqual(again.pair, first.pair)
  }))

test('none, one, or a pair that does not fit stops the start', () =>
  withRig(async ({ files, certPath, keyPath, write }) => {
    await assert.rejects(
      files().load(),
      /TLS cert and key files do not exist, but config is set to not create them/,
    )
    const pair = fresh()
    const one = /both TLS cert and key files are required, but only one exists/
    write({ cert: pair.cert })
    await assert.rejects(files({ createIfMissing: true }).load(), one)
    rmSync(certPath)
    write({ key: pair.key })
    await assert.rejects(files({ createIfMissing: true }).load(), one)
    write({ cert: fresh().cert })
    await assert.rejects(files().load(), /it does not belong to the certificate/)
    write({ cert: 'x', key: pair.key })
    await assert.rejects(files().load(), /it is not a PEM certificate/)
    write({ cert: pair.cert, key: pair.key.slice(0, 80) })
    await assert.rejects(files().load(), (error: Error) => {
      assert.equal(
        error.message,
        `Cannot use TLS key "${keyPath}": it is not an unencrypted PEM private key`,
      )
      assert.equal(`${error.stack}${String(error.cause)}`.includes(pair.key.slice(40, 70)), false)
      return true
    })
    write({ cert: `${'#'.repeat(1024 * 1024)}\n${pair.cert}`, key: pair.key })
    await assert.rejects(files().load(), /not a file of at most 1048576 bytes/)
  }))

test('a certificate is not left behind when its key cannot be written', () =>
  withRig(async ({ folder, files, certPath }) => {
    const keyPath = join(folder, 'missing', 'key.pem')
    await assert.rejects(files({ createIfMissing: true, keyPath }).load())
    assert.equal(existsSync(certPath), false)
  }))

test('a chain is checked by its first certificate', () =>
  withRig(async ({ files, write }) => {
    const [leaf, other] = [fresh(), fresh()]
    write({ cert: leaf.cert + other.cert, key: leaf.key })
    assert.equal((await files().load()).pair.cert, leaf.cert + other.cert)
    write({ cert: other.cert + leaf.cert })
    await assert.rejects(files().load(), /does not belong/)
  }))

test('text and other blocks around the pair do no harm', () =>
  withRig(async ({ files, write }) => {
    const pair = fresh()
    const parameters =
      '-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n'
    write({ cert: `subject=O = cvmd\n${pair.cert}${pair.key}`, key: parameters + pair.key })
    const loaded = await files().load()
    assert.deepEqual({ cert: loaded.pair.cert, key: loaded.pair.key }, pair)
  }))

test('replaced files are taken over while running', () =>
  withRig(async ({ files, write, reports }) => {
    write(fresh())
    const watched = files()
    await watched.load()
    const seen: TlsPair[] = []
    watched.watch((pair) => seen.push(pair))
    const next = fresh()
    write(next)
    await until(() => seen.length > 0)
    assert.equal(seen[0]?.cert, next.cert)
    assert.equal(watched.pair?.key, next.key)
    assert.deepEqual(reports, [])
    watched.stop()
    write(fresh())
    await sleep(50)
    assert.equal(seen.length, 1)
  }))

test('symlinks that are moved to a renewed pair are noticed', () =>
  withRig(async ({ folder, files, certPath, keyPath }) => {
    const live = join(folder, 'live')
    const release = (name: string) => {
      const pair = fresh()
      writeFileSync(join(folder, `${name}.crt`), pair.cert + pair.key)
      symlinkSync(join(folder, `${name}.crt`), `${live}.new`)
      renameSync(`${live}.new`, live)
      return pair
    }
    const first = release('first')
    symlinkSync(live, certPath)
    symlinkSync(live, keyPath)
    const watched = files()
    assert.ok((await watched.load()).pair.cert.startsWith(first.cert))
    let changes = 0
    watched.watch(() => changes++)
    const second = release('second')
    await until(() => changes === 1)
    assert.ok(watched.pair?.cert.startsWith(second.cert))
  }))

test('a bad replacement keeps the pair in use and is reported once, a good one ends that', () =>
  withRig(async ({ files, write, reports, keyPath }) => {
    const good = fresh()
    write(good)
    const watched = files()
    await watched.load()
    let changes = 0
    watched.watch(() => changes++)
    const next = fresh()
    write({ cert: next.cert })
    await until(() => reports.length > 0)
    await sleep(60)
    assert.equal(reports.length, 1)
    assert.match(reports[0] ?? '', /^error: .*does not belong.*; the old pair stays in use$/)
    assert.equal(watched.pair?.cert, good.cert)
    await assert.rejects(watched.reload(), /does not belong/)
    rmSync(keyPath)
    await until(() => reports.length > 1)
    assert.equal(watched.pair?.cert, good.cert)
    assert.equal(changes, 0)
    write(next)
    await until(() => changes === 1)
    assert.equal(watched.pair?.cert, next.cert)
  }))

test('reload looks at once and says whether the pair is another', () =>
  withRig(async ({ files, write }) => {
    const first = fresh()
    write(first)
    const loaded = files()
    await loaded.load()
    assert.equal(await loaded.reload(), false)
    write(first)
    assert.equal(await loaded.reload(), false)
    const second = fresh()
    write(second)
    assert.equal(await loaded.reload(), true)
    assert.equal(loaded.pair?.cert, second.cert)
  }))

test('a listener that refuses the new pair is reported, and the watch goes on', () =>
  withRig(async ({ files, write, reports }) => {
    write(fresh())
    const watched = files()
    await watched.load()
    let calls = 0
    watched.watch(() => {
      if (++calls === 1) throw new Error('no such curve')
    })
    write(fresh())
    await until(() => reports.length > 0)
    assert.deepEqual(reports, ['error: Cannot use the new TLS certificate: no such curve'])
    write(fresh())
    await until(() => calls === 2)
  }))

test('the end of validity is told two weeks ahead, once a day', () =>
  withRig(async ({ files, write, reports, clock, certPath }) => {
    write(fresh(clock.now - 350 * DAY_MS))
    const watched = files()
    await watched.load()
    assert.deepEqual(reports, [])
    clock.now += 2 * DAY_MS
    watched.watch(() => undefined)
    await until(() => reports.length > 0)
    await sleep(60)
    assert.deepEqual(reports, [
      `warn: TLS certificate "${certPath}" expires in 13 days, replace it`,
    ])
    clock.now += DAY_MS
    await until(() => reports.length > 1)
    clock.now += 14 * DAY_MS
    await until(() => reports.length > 2)
    assert.equal(reports[2], `error: TLS certificate "${certPath}" has expired`)
  }))

test('stop is safe without watch, and twice', () =>
  withRig(async ({ files }) => {
    const idle = files()
    idle.stop()
    idle.stop()
  }))

test('who signs certificates of clients is watched as the pair is, and its end is reported', () =>
  withRig(async ({ folder, files, write, reports, clock }) => {
    const [client_ca, client_crl] = [join(folder, 'ca.pem'), join(folder, 'crl.pem')]
    const authority = certify({ name: 'authority', to: Date.now() + 3 * DAY_MS })
    const list = (...revoked: Issued[]) => writeFileSync(client_crl, crlOf(authority, revoked))
    write(fresh())
    const trusting = files({ clients: { client_ca, client_crl } })
    await assert.rejects(trusting.load(), /Cannot use client authorities/)
    writeFileSync(client_ca, certificatePem(authority.der))
    await assert.rejects(trusting.load(), /Cannot use revocation lists/)
    list()
    const { pair } = await trusting.load()
    assert.equal(pair.clients?.authorities.length, 1)
    assert.match(reports.join(), /^warn: Client authority "authority" in .* expires in 3 days/)
    assert.equal(await trusting.reload(), false, 'the same again is no change')

    const changes: TlsPair[] = []
    trusting.watch((next) => changes.push(next))
    list(authority)
    await until(() => changes.length === 1)
    writeFileSync(client_ca, 'nothing')
    await until(() => reports.some((text) => /Cannot use client.*old pair stays/.test(text)))
    assert.equal(trusting.pair, changes[0])
    clock.now += 2 * DAY_MS
    writeFileSync(client_ca, certificatePem(authority.der))
    await until(() =>
      reports.some((text) => /^error: Revocation list in .* has expired/.test(text)),
    )
  }))
