import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { MAX_PASSWORD_BYTES, PasswordStore } from '../src/auth/password.ts'

const SALT = 'salt é'
const NOBODY = 65534
const bytes = (text: string) => new TextEncoder().encode(text)
const hashOf = (password: Uint8Array) =>
  createHash('sha256').update(password).update(SALT).digest('hex')
const mode = (path: string) => statSync(path).mode & 0o777

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-password-'))
  try {
    await work(folder)
  } finally {
    chmodSync(folder, 0o700)
    rmSync(folder, { recursive: true, force: true })
  }
}

test('a missing file is created empty with mode 0600, and no password is set', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'secret')
    const store = new PasswordStore(path, SALT)
    assert.equal(await store.load(), 'created')
    assert.equal(readFileSync(path, 'utf8'), '')
    assert.equal(mode(path), 0o600)
    assert.equal(store.isSet, false)
    assert.equal(store.verify(bytes('')), false)
    assert.equal(await store.load(), 'empty')
  }))

test('the hash of the original is read, with or without a line feed after it', () =>
  inFolder(async (folder) => {
    for (const end of ['', '\n']) {
      const path = join(folder, 'secret')
      writeFileSync(path, hashOf(bytes('p:ä')) + end)
      const store = new PasswordStore(path, SALT)
      assert.equal(await store.load(), 'loaded')
      assert.equal(store.isSet, true)
      assert.equal(store.verify(bytes('p:ä')), true)
      assert.equal(store.verify(bytes('p:ä ')), false)
      assert.equal(store.verify(bytes('')), false)
    }
  }))

test('64 bytes that are no lower-case hash switch auth on and match nothing', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'secret')
    for (const content of [hashOf(bytes('pw')).toUpperCase(), 'z'.repeat(64)]) {
      writeFileSync(path, content)
      const store = new PasswordStore(path, SALT)
      await store.load()
      assert.equal(store.isSet, true)
      assert.equal(store.verify(bytes('pw')), false)
    }
  }))

test('any other content is refused and what was in force stays', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'secret')
    const hash = hashOf(bytes('pw'))
    const store = new PasswordStore(path, SALT)
    writeFileSync(path, hash)
    await store.load()
    for (const bad of ['x', '\n', hash.slice(1), `${hash}x`, `${hash}\r\n`, `${hash}\n\n`]) {
      writeFileSync(path, bad)
      await assert.rejects(store.load(), (error: Error) => {
        assert.equal(
          error.message,
          `basic auth secret in ${path} does not look like a SHA256 hash (must be 64 characters)`,
        )
        return true
      })
      await assert.rejects(new PasswordStore(path, SALT).load())
      assert.equal(store.verify(bytes('pw')), true)
    }
  }))

test('a file that cannot be created or read is named', () =>
  inFolder(async (folder) => {
    const missing = new PasswordStore(join(folder, 'no', 'secret'), SALT)
    await assert.rejects(missing.load(), /^Error: failed to create basic auth secret file: /)
    mkdirSync(join(folder, 'secret'))
    const directory = new PasswordStore(join(folder, 'secret'), SALT)
    await assert.rejects(directory.load(), /^Error: failed to read basic auth secret file: /)
  }))

test('set writes the original form and takes effect at once', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'secret')
    const store = new PasswordStore(path, SALT)
    await store.load()
    const before = store.revision
    const password = Uint8Array.of(0xff, 0x00, 0x3a, 0x0a)
    await store.set(password)
    assert.equal(readFileSync(path, 'utf8'), hashOf(password))
    assert.equal(mode(path), 0o600)
    assert.ok(store.revision > before)
    assert.equal(store.verify(password), true)
    await store.set(bytes('second'))
    assert.equal(store.verify(password), false)
    assert.equal(store.verify(bytes('second')), true)
    await store.set(bytes(''))
    assert.equal(store.verify(bytes('')), true)
  }))

test('set keeps the mode and goes through a symlink', () =>
  inFolder(async (folder) => {
    const real = join(folder, 'real')
    const link = join(folder, 'link')
    writeFileSync(real, '')
    chmodSync(real, 0o640)
    symlinkSync(real, link)
    const store = new PasswordStore(link, SALT)
    await store.load()
    await store.set(bytes('pw'))
    assert.equal(readFileSync(real, 'utf8'), hashOf(bytes('pw')))
    assert.equal(readFileSync(link, 'utf8'), hashOf(bytes('pw')))
    assert.equal(mode(real), 0o640)
  }))

test('in a folder that takes no new file the hash is written over the old one', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'secret')
    writeFileSync(path, `${hashOf(bytes('old'))}\n`)
    const root = process.geteuid?.() === 0
    // Root may write everywhere, so for this long it is somebody else.
    if (root) {
      chownSync(path, NOBODY, NOBODY)
      chmodSync(folder, 0o555)
      process.seteuid?.(NOBODY)
    } else chmodSync(folder, 0o500)
    try {
      const store = new PasswordStore(path, SALT)
      await store.load()
      await assert.rejects(open(join(folder, 'other'), 'w'))
      await store.set(bytes('new'))
      assert.equal(store.verify(bytes('new')), true)
    } finally {
      if (root) process.seteuid?.(0)
    }
    assert.equal(readFileSync(path, 'utf8'), hashOf(bytes('new')))
  }))

test('a failed set leaves the old password in force', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'sub', 'secret')
    mkdirSync(join(folder, 'sub'))
    const store = new PasswordStore(path, SALT)
    await store.load()
    await store.set(bytes('old'))
    rmSync(join(folder, 'sub'), { recursive: true })
    await assert.rejects(store.set(bytes('new')))
    assert.equal(store.verify(bytes('old')), true)
    assert.equal(store.verify(bytes('new')), false)
    await assert.rejects(store.set(new Uint8Array(MAX_PASSWORD_BYTES + 1)), RangeError)
  }))

test('an emptied or deleted file does not open the API again', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'secret')
    const store = new PasswordStore(path, SALT)
    await store.load()
    await store.set(bytes('pw'))
    writeFileSync(path, '')
    assert.equal(await store.load(), 'kept')
    assert.equal(store.verify(bytes('pw')), true)
    rmSync(path)
    assert.equal(await store.load(), 'kept')
    assert.equal(store.isSet, true)
    assert.equal(existsSync(path), false)
  }))

test('sets at the same time leave file and memory equal', () =>
  inFolder(async (folder) => {
    const path = join(folder, 'secret')
    const store = new PasswordStore(path, SALT)
    await store.load()
    const passwords = Array.from({ length: 12 }, (_, i) => bytes(`password ${i}`))
    await Promise.all(passwords.map((password) => store.set(password)))
    const last = passwords.at(-1) as Uint8Array
    assert.equal(readFileSync(path, 'utf8'), hashOf(last))
    assert.deepEqual(
      passwords.map((password) => store.verify(password)),
      passwords.map((password) => password === last),
    )
  }))

test('only the bytes that were set verify', () =>
  inFolder(async (folder) => {
    const store = new PasswordStore(join(folder, 'secret'), SALT)
    await store.load()
    const set = fc.uint8Array({ maxLength: 100 })
    await fc.assert(
      fc.asyncProperty(set, fc.uint8Array({ maxLength: 100 }), async (password, other) => {
        await store.set(password)
        assert.equal(store.verify(password), true)
        assert.equal(store.verify(other), Buffer.compare(password, other) === 0)
      }),
      { numRuns: 30 },
    )
  }))
