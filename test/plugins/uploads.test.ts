import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { test } from 'node:test'
import * as v from 'valibot'
import uploads from '../../plugins/uploads/index.ts'
import { systemApiError } from '../../src/compat/system-api.ts'
import { lacks } from '../helpers/counterpart.ts'
import { hostPlugin, type PluginHost } from '../helpers/plugin-host.ts'

type Body = ConstructorParameters<typeof Response>[0]
type Head = Record<string, string>

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
const etag = (text: string) => `"${sha256(text)}"`
const contentDigest = (text: string) =>
  `sha-256=:${createHash('sha256').update(text).digest('base64')}:`

/** Runs a body with a folder of its own and the plugin configured for files in it. */
async function withUploads(
  files: (folder: string) => Record<string, object>,
  body: (host: PluginHost, folder: string) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-uploads-'))
  const host = hostPlugin(uploads, { files: files(folder) }, { renderError: systemApiError })
  await host.start()
  try {
    await body(host, folder)
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.startsWith('.cvmd-')),
      [],
      'temporary files stayed',
    )
  } finally {
    await host.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

const one =
  (options: object = {}) =>
  (folder: string) => ({ a: { path: join(folder, 'a.txt'), ...options } })

function post(host: PluginHost, name: string, body: Body, headers: Head = {}) {
  return host.request(`/api/v1/file-upload/${name}`, { method: 'POST', body, headers })
}

function put(host: PluginHost, name: string, body: Body, headers: Head = {}) {
  return host.request(`/cvmd/uploads/${name}`, { method: 'PUT', body, headers })
}

async function problemOf(response: Response) {
  const { code, detail } = (await response.json()) as { code: string; detail: string }
  return { status: response.status, code, detail }
}

/** A body that hands out its pieces and then does what `end` says. */
function stream(pieces: readonly string[], end: 'close' | 'error' | 'stall'): Body {
  const rest = [...pieces]
  return new ReadableStream<Uint8Array>({
    pull(controller) {
      const piece = rest.shift()
      if (piece !== undefined) controller.enqueue(new TextEncoder().encode(piece))
      else if (end === 'close') controller.close()
      else if (end === 'error') controller.error(new Error('aborted'))
      else return new Promise(() => undefined)
    },
  })
}

const streaming = (body: Body) => ({ method: 'POST', body, duplex: 'half' }) as RequestInit

test('system-api: a stored upload, to the byte', async () => {
  await withUploads(one(), async (host, folder) => {
    const path = join(folder, 'a.txt')
    for (const content of ['hello <world>', '']) {
      const response = await post(host, 'a', content)
      assert.equal(response.status, 200)
      assert.equal(response.headers.get('content-type'), 'application/json')
      assert.equal(response.headers.get('etag'), etag(content))
      assert.equal(
        await response.text(),
        `{"file":"${path}","message":"File uploaded successfully",` +
          `"size_bytes":"${content.length}"}\n`,
      )
      assert.equal(readFileSync(path, 'utf8'), content)
    }
    assert.deepEqual(host.messages().slice(0, 2), [
      `[system-api] file upload: a = ${path}`,
      `[system-api] file upload success: a = ${path} - content: 13 bytes`,
    ])
  })
})

test('system-api: unknown names, other methods and escapes', async () => {
  await withUploads(
    (folder) => ({ 'with space': { path: join(folder, 'x') }, é: { path: join(folder, 'y') } }),
    async (host) => {
      const unknown = await post(host, 'nope', 'x')
      assert.equal(unknown.status, 400)
      assert.equal(
        await unknown.text(),
        '{"code":400,"message":"Specified file upload not configured"}\n',
      )
      assert.deepEqual(host.messages(), [])
      assert.equal((await post(host, 'with%20space', 'x')).status, 200)
      assert.equal((await post(host, '%C3%A9', 'x')).status, 200)
      assert.equal((await post(host, 'with%2520space', 'x')).status, 400)
      for (const method of ['GET', 'HEAD', 'PUT']) {
        const response = await host.request('/api/v1/file-upload/x', { method })
        assert.equal(response.status, 405)
        assert.equal(response.headers.get('allow'), 'POST')
        assert.equal(await response.text(), '')
      }
    },
  )
})

test('system-api: write errors in its words', async () => {
  await withUploads(
    (folder) => ({
      missing: { path: join(folder, 'none', 'x') },
      folder: { path: folder },
      slash: { path: `${folder}/x/` },
    }),
    async (host, folder) => {
      for (const [name, path, words] of [
        ['missing', join(folder, 'none', 'x'), 'no such file or directory'],
        ['folder', folder, 'is a directory'],
        ['slash', `${folder}/x/`, 'is a directory'],
      ]) {
        const response = await post(host, name as string, 'x')
        assert.equal(response.status, 500)
        assert.equal(
          await response.text(),
          '{"code":500,"message":"Failed to write content to file"}\n',
        )
        assert.deepEqual(host.messages().slice(-2), [
          `[system-api] file upload: ${name} = ${path}`,
          `[system-api] file upload error (failed to write): ${name} = ${path} - ` +
            `error: open ${path}: ${words}`,
        ])
      }
    },
  )
})

test('a body that breaks off or stalls leaves the old file', async () => {
  await withUploads(one({ idle_timeout_s: 1 }), async (host, folder) => {
    const path = join(folder, 'a.txt')
    writeFileSync(path, 'old')
    const cases = [
      [stream(['ne'], 'error'), 'unexpected EOF'],
      [stream(['ne'], 'stall'), 'read tcp test->127.0.0.1:50000: i/o timeout'],
    ] as const
    for (const [body, words] of cases) {
      const response = await host.request('/api/v1/file-upload/a', streaming(body))
      assert.equal(response.status, 500)
      assert.equal(
        await response.text(),
        '{"code":500,"message":"Failed to read content from payload"}\n',
      )
      assert.equal(
        host.messages().at(-1),
        `[system-api] file upload error (failed to read): a = ${path} - error: ${words}`,
      )
      assert.equal(readFileSync(path, 'utf8'), 'old')
    }
    const short = await host.request('/api/v1/file-upload/a', {
      ...streaming(stream(['ne'], 'close')),
      headers: { 'content-length': '3' },
    })
    assert.equal(short.status, 500)
    assert.equal(readFileSync(path, 'utf8'), 'old')
  })
})

test('a slow upload outlives the idle limit, because each chunk re-arms it', async () => {
  await withUploads(one({ idle_timeout_s: 1 }), async (host, folder) => {
    let sent = 0
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        if (sent++ === 4) return controller.close()
        await new Promise((resolve) => setTimeout(resolve, 400))
        controller.enqueue(new Uint8Array([0x61]))
      },
    })
    assert.equal((await host.request('/api/v1/file-upload/a', streaming(body))).status, 200)
    assert.equal(readFileSync(join(folder, 'a.txt'), 'utf8'), 'aaaa')
  })
})

test('an upload under way ends with the plugin', async () => {
  await withUploads(one({ idle_timeout_s: 0 }), async (host, folder) => {
    const pending = host.request('/api/v1/file-upload/a', streaming(stream(['x'], 'stall')))
    while (readdirSync(folder).length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    await host.stop()
    assert.equal((await pending).status, 500)
  })
})

test('mode: kept, configured, or what the umask leaves', async () => {
  await withUploads(
    (folder) => ({
      kept: { path: join(folder, 'kept') },
      set: { path: join(folder, 'set'), mode: '0600' },
      fresh: { path: join(folder, 'fresh') },
    }),
    async (host, folder) => {
      for (const name of ['kept', 'set']) {
        writeFileSync(join(folder, name), 'old')
        chmodSync(join(folder, name), 0o751)
      }
      const umask = process.umask(0o027)
      try {
        for (const name of ['kept', 'set', 'fresh']) await post(host, name, 'new')
      } finally {
        process.umask(umask)
      }
      const mode = (name: string) => statSync(join(folder, name)).mode & 0o7777
      assert.deepEqual([mode('kept'), mode('set'), mode('fresh')], [0o751, 0o600, 0o640])
    },
  )
})

test('owner: kept and configured, as root', async (t) => {
  if (lacks(t, 'root', process.getuid?.() === 0)) return
  await withUploads(
    (folder) => ({
      kept: { path: join(folder, 'kept') },
      set: { path: join(folder, 'set'), owner: '12:root' },
    }),
    async (host, folder) => {
      const { chownSync } = await import('node:fs')
      writeFileSync(join(folder, 'kept'), 'old')
      chownSync(join(folder, 'kept'), 33, 34)
      for (const name of ['kept', 'set']) assert.equal((await post(host, name, 'new')).status, 200)
      const owner = (name: string) => {
        const { uid, gid } = statSync(join(folder, name))
        return `${uid}:${gid}`
      }
      assert.deepEqual([owner('kept'), owner('set')], ['33:34', '12:0'])
    },
  )
})

test('an owner nobody knows stops the start', async () => {
  const host = hostPlugin(uploads, { files: { a: { path: '/tmp/x', owner: 'no-such-user-here' } } })
  await assert.rejects(host.start(), /no user "no-such-user-here"/)
  await host.stop()
})

test('links are refused, and written through where the configuration says so', async () => {
  const files = (folder: string) => {
    const through = (name: string) => ({ path: join(folder, name), follow_symlinks: true })
    return {
      symlink: { path: join(folder, 'symlink') },
      hardlink: { path: join(folder, 'hardlink') },
      'symlink-through': through('symlink'),
      'hardlink-through': through('hardlink'),
      'dangling-through': through('dangling'),
      'loop-through': through('loop'),
    }
  }
  await withUploads(files, async (host, folder) => {
    mkdirSync(join(folder, 'real'))
    writeFileSync(join(folder, 'real', 'file'), 'old')
    symlinkSync('real/file', join(folder, 'symlink'))
    writeFileSync(join(folder, 'other'), 'old')
    linkSync(join(folder, 'other'), join(folder, 'hardlink'))
    symlinkSync('real/fresh', join(folder, 'dangling'))
    symlinkSync('loop', join(folder, 'loop'))
    for (const name of ['symlink', 'hardlink']) {
      const refused = await problemOf(await put(host, name, 'new'))
      assert.equal(refused.status, 409)
      assert.equal(refused.code, `UPLOAD_TARGET_${name.toUpperCase()}`)
    }
    assert.equal(readFileSync(join(folder, 'symlink'), 'utf8'), 'old')
    assert.equal(readFileSync(join(folder, 'other'), 'utf8'), 'old')

    const { ino } = statSync(join(folder, 'other'))
    const symlink = await put(host, 'symlink-through', 'new')
    assert.equal(((await symlink.json()) as { atomic: boolean }).atomic, true)
    const hardlink = await put(host, 'hardlink-through', 'longer than it was')
    assert.equal(((await hardlink.json()) as { atomic: boolean }).atomic, false)
    assert.equal((await put(host, 'dangling-through', 'made')).status, 201)
    assert.ok(lstatSync(join(folder, 'symlink')).isSymbolicLink())
    assert.equal(readFileSync(join(folder, 'real', 'file'), 'utf8'), 'new')
    assert.equal(readFileSync(join(folder, 'other'), 'utf8'), 'longer than it was')
    assert.equal(statSync(join(folder, 'hardlink')).ino, ino)
    assert.equal(readFileSync(join(folder, 'real', 'fresh'), 'utf8'), 'made')
    await put(host, 'hardlink-through', 'short')
    assert.equal(readFileSync(join(folder, 'other'), 'utf8'), 'short')

    const loop = await post(host, 'loop-through', 'x')
    assert.equal(loop.status, 500)
    assert.match(host.messages().at(-1) ?? '', /loop: too many levels of symbolic links$/)
  })
})

test('a folder exchanged during the upload is noticed', async () => {
  const files = (folder: string) => ({
    a: { path: join(folder, 'sub', 'a'), follow_symlinks: true },
  })
  await withUploads(files, async (host, folder) => {
    const { renameSync } = await import('node:fs')
    const sub = join(folder, 'sub')
    mkdirSync(sub)
    mkdirSync(join(folder, 'victim'))
    const swap = new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          while (readdirSync(sub).length === 0) await new Promise((done) => setTimeout(done, 5))
          renameSync(sub, join(folder, 'moved'))
          symlinkSync('victim', sub)
          controller.enqueue(new TextEncoder().encode('evil'))
          controller.close()
        },
      },
      { highWaterMark: 0 },
    )
    const response = await host.request('/cvmd/uploads/a', { ...streaming(swap), method: 'PUT' })
    assert.equal((await problemOf(response)).code, 'UPLOAD_TARGET_MOVED')
    assert.deepEqual(readdirSync(join(folder, 'victim')), [])
  })
})

test('something that is no file is refused', async () => {
  await withUploads(
    () => ({ device: { path: '/dev/null', follow_symlinks: true } }),
    async (host) => {
      const refused = await problemOf(await put(host, 'device', 'x'))
      assert.equal(refused.code, 'UPLOAD_TARGET_NOT_FILE')
      const list = (await (await host.request('/cvmd/uploads')).json()) as {
        uploads: { problem: string; sha256: null }[]
      }
      assert.match(list.uploads[0]?.problem ?? '', /is a device/)
      assert.equal(list.uploads[0]?.sha256, null)
    },
  )
})

test('native: created, replaced, described', async () => {
  await withUploads(one({ max_bytes: 10 }), async (host, folder) => {
    const path = join(folder, 'a.txt')
    const created = await put(host, 'a', 'one')
    assert.equal(created.status, 201)
    assert.equal(created.headers.get('etag'), etag('one'))
    assert.deepEqual(await created.json(), {
      name: 'a',
      path,
      size_bytes: 3,
      sha256: sha256('one'),
      replaced: false,
      atomic: true,
    })
    assert.equal((await put(host, 'a', 'two!')).status, 200)
    assert.deepEqual(host.messages(), [
      `upload a stored: ${path}, 3 bytes, sha256 ${sha256('one')}`,
      `upload a stored: ${path}, 4 bytes, sha256 ${sha256('two!')}`,
    ])
    const shown = await host.request('/cvmd/uploads/a')
    assert.equal(shown.headers.get('etag'), etag('two!'))
    const { modified_at, ...rest } = (await shown.json()) as Record<string, unknown>
    assert.ok(Number.isFinite(Date.parse(modified_at as string)))
    assert.deepEqual(rest, {
      name: 'a',
      path,
      size_bytes: 4,
      sha256: sha256('two!'),
      mode: '0644',
      max_bytes: 10,
      versions: [],
      problem: null,
    })
    assert.equal((await problemOf(await put(host, 'nope', 'x'))).code, 'UPLOAD_NOT_FOUND')
    assert.equal((await problemOf(await put(host, 'a', 'eleven bytes'))).code, 'UPLOAD_TOO_LARGE')
    const ranged = await put(host, 'a', 'x', { 'content-range': 'bytes 0-0/1' })
    assert.equal((await problemOf(ranged)).code, 'CONTENT_RANGE_UNSUPPORTED')
    const metrics = await host.metrics.render()
    assert.match(metrics, /cvmd_uploads_total\{name="a",outcome="stored"\} 2/)
    assert.match(metrics, /cvmd_upload_bytes_total\{name="a"\} 7/)
  })
})

test('a scope names the upload', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-uploads-'))
  const caller = { kind: 'key', name: 'k', scopes: ['uploads:write:a'] } as const
  const files = { a: { path: join(folder, 'a') }, b: { path: join(folder, 'b') } }
  const host = hostPlugin(uploads, { files }, { guard: { authenticate: () => caller } })
  await host.start()
  assert.equal((await put(host, 'a', 'x')).status, 201)
  assert.equal((await post(host, 'a', 'x')).status, 200)
  assert.equal((await put(host, 'b', 'x')).status, 403)
  assert.equal((await post(host, 'b', 'x')).status, 403)
  assert.equal((await host.request('/cvmd/uploads/b/rollback', { method: 'POST' })).status, 403)
  assert.deepEqual(readdirSync(folder), ['a'])
  await host.stop()
  rmSync(folder, { recursive: true })
})

test('conditions: If-Match and If-None-Match, on both routes', async () => {
  await withUploads(one(), async (host, folder) => {
    const path = join(folder, 'a.txt')
    const status = async (body: string, headers: Head) => [
      (await put(host, 'a', body, headers)).status,
      existsSync(path) && readFileSync(path, 'utf8'),
    ]
    assert.deepEqual(await status('x', { 'if-match': '*' }), [412, false])
    assert.deepEqual(await status('one', { 'if-none-match': '*' }), [201, 'one'])
    assert.deepEqual(await status('two', { 'if-none-match': '*' }), [412, 'one'])
    assert.deepEqual(await status('two', { 'if-match': etag('other') }), [412, 'one'])
    assert.deepEqual(await status('two', { 'if-match': `W/${etag('one')}` }), [412, 'one'])
    assert.deepEqual(await status('two', { 'if-match': `"x", ${etag('one')}` }), [200, 'two'])
    writeFileSync(path, 'by hand')
    assert.deepEqual(await status('three', { 'if-match': etag('two') }), [412, 'by hand'])
    const compatible = await post(host, 'a', 'x', { 'if-match': etag('two') })
    assert.equal(compatible.status, 412)
    assert.equal(((await compatible.json()) as { code: number }).code, 412)
    assert.equal(readFileSync(path, 'utf8'), 'by hand')
  })
})

test('conditions hold when two uploads race: exactly one wins', async () => {
  await withUploads(one(), async (host, folder) => {
    writeFileSync(join(folder, 'a.txt'), 'base')
    const racers = Array.from({ length: 8 }, (_, i) =>
      put(host, 'a', `racer ${i}`, { 'if-match': etag('base') }),
    )
    const statuses = (await Promise.all(racers)).map(({ status }) => status).sort()
    assert.deepEqual(statuses, [200, ...Array(7).fill(412)])
  })
})

test('digests: a wrong one is refused, an unreadable one too', async () => {
  await withUploads(one(), async (host, folder) => {
    for (const header of ['content-digest', 'repr-digest']) {
      const wrong = await put(host, 'a', 'x', { [header]: contentDigest('y') })
      const { status, code } = await problemOf(wrong)
      assert.deepEqual([status, code], [422, 'UPLOAD_DIGEST_MISMATCH'])
      const broken = await put(host, 'a', 'x', { [header]: 'sha-256=:eA==:' })
      assert.equal((await problemOf(broken)).code, 'INVALID_DIGEST')
      assert.ok(!existsSync(join(folder, 'a.txt')))
    }
    const both = `sha-512=:eA==:, ${contentDigest('x')}`
    assert.equal((await put(host, 'a', 'x', { 'content-digest': both })).status, 201)
    assert.equal((await put(host, 'a', 'x', { 'content-digest': 'md5=:eA==:' })).status, 200)
  })
})

test('verify: accepts, refuses with its words, times out, is missing', async () => {
  const sh = (script: string) => ['/bin/sh', '-c', script, 'verify', '{file}']
  const files = (folder: string) => ({
    good: { path: join(folder, 'good.conf'), verify: ['/bin/grep', '-q', 'ok', '{file}'] },
    loud: {
      path: join(folder, 'loud.conf'),
      verify: sh('env | grep -c SECRET_ENV; echo "bad $1; rm -rf" >&2; exit 3'),
    },
    slow: { path: join(folder, 'slow'), verify: sh('exec sleep 60'), verify_timeout_s: 1 },
    missing: { path: join(folder, 'missing'), verify: ['/no/such/program', '{file}'] },
  })
  process.env.SECRET_ENV = 'x'
  await withUploads(files, async (host, folder) => {
    writeFileSync(join(folder, 'good.conf'), 'old')
    const bad = await put(host, 'good', 'no')
    assert.equal((await problemOf(bad)).code, 'UPLOAD_REFUSED')
    assert.equal(readFileSync(join(folder, 'good.conf'), 'utf8'), 'old')
    assert.equal((await put(host, 'good', 'ok')).status, 200)
    const loud = await post(host, 'loud', 'x')
    assert.equal(loud.status, 422)
    assert.equal(
      await loud.text(),
      '{"code":422,"message":"Upload \\"loud\\" was refused: \\"/bin/sh\\" ended with status 3: ' +
        'bad {file}; rm -rf\\n0"}\n',
    )
    assert.equal(
      host.messages().at(-1),
      `[system-api] file upload error (refused): loud = ${join(folder, 'loud.conf')} - ` +
        'error: Upload "loud" was refused: "/bin/sh" ended with status 3',
    )
    const slow = await problemOf(await put(host, 'slow', 'x'))
    assert.match(slow.detail, /did not finish within 1 s/)
    const missing = await problemOf(await put(host, 'missing', 'x'))
    assert.deepEqual([missing.status, missing.code], [500, 'UPLOAD_VERIFY_UNAVAILABLE'])
    assert.deepEqual(readdirSync(folder), ['good.conf'])
  })
})

test('keep and rollback: nothing is lost on the way back and forth', async () => {
  await withUploads(one({ keep: 2 }), async (host, folder) => {
    const path = join(folder, 'a.txt')
    const rollback = (query = '') =>
      host.request(`/cvmd/uploads/a/rollback${query}`, { method: 'POST' })
    const versions = async () => {
      const shown = await (await host.request('/cvmd/uploads/a')).json()
      return (shown as { versions: { sha256: string }[] }).versions.map((item) => item.sha256)
    }
    assert.equal((await problemOf(await rollback())).code, 'UPLOAD_NO_VERSION')
    for (const content of ['one', 'two', 'two', 'three', 'four']) await put(host, 'a', content)
    chmodSync(path, 0o640)
    assert.deepEqual(await versions(), [sha256('three'), sha256('two')])

    const back = await rollback()
    assert.equal(back.status, 200)
    assert.equal(back.headers.get('etag'), etag('three'))
    assert.equal(readFileSync(path, 'utf8'), 'three')
    assert.equal(statSync(path).mode & 0o7777, 0o640)
    assert.equal(
      host.messages().at(-1),
      `upload a rolled back: ${path}, 5 bytes, sha256 ${sha256('three')}`,
    )
    assert.deepEqual(await versions(), [sha256('four'), sha256('two')])
    await rollback(`?to=${sha256('two')}`)
    assert.equal(readFileSync(path, 'utf8'), 'two')
    assert.deepEqual(await versions(), [sha256('three'), sha256('four')])
    assert.equal((await problemOf(await rollback(`?to=${sha256('one')}`))).status, 404)

    rmSync(path)
    assert.equal((await rollback()).status, 200)
    assert.equal(readFileSync(path, 'utf8'), 'three')

    const kept = join(host.stateDir, 'versions', 'a')
    assert.equal(statSync(kept).mode & 0o777, 0o700)
    const newest = readdirSync(kept).sort().at(-1) as string
    writeFileSync(join(kept, newest), 'tampered')
    assert.equal((await problemOf(await rollback())).code, 'UPLOAD_VERSION_DAMAGED')
    assert.equal(readFileSync(path, 'utf8'), 'three')
  })
})

test('parallel uploads to one name are whole, recorded, and bounded', async () => {
  await withUploads(one({ max_parallel: 4 }), async (host, folder) => {
    const path = join(folder, 'a.txt')
    const bodies = ['a', 'b', 'c', 'd', 'e', 'f'].map((letter) => letter.repeat(300_000))
    const answers = await Promise.all(bodies.map((body) => post(host, 'a', body)))
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 200, 200, 200, 429, 429])
    const content = readFileSync(path, 'utf8')
    assert.equal(content, (content[0] as string).repeat(300_000))
    const stored = host.messages().filter((message) => message.includes('success'))
    assert.equal(stored.length, 4)
  })
})

test('a slow upload holds nobody up; the last complete one stays', async () => {
  await withUploads(one(), async (host, folder) => {
    let finish: () => void = () => undefined
    const gate = new Promise<void>((resolve) => {
      finish = resolve
    })
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        await gate
        controller.enqueue(new TextEncoder().encode('slow'))
        controller.close()
      },
    })
    const slow = host.request('/api/v1/file-upload/a', streaming(body))
    assert.equal((await post(host, 'a', 'fast')).status, 200)
    assert.equal(readFileSync(join(folder, 'a.txt'), 'utf8'), 'fast')
    finish()
    assert.equal((await slow).status, 200)
    assert.equal(readFileSync(join(folder, 'a.txt'), 'utf8'), 'slow')
  })
})

test('left-overs of a killed process are collected at start, and nothing else', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-uploads-'))
  const names = {
    ours: '.cvmd-0123456789ab.a.txt',
    fresh: '.cvmd-ba9876543210.a.txt',
    other: '.cvmd-0123456789ab.b.txt',
    odd: '.cvmd-nothex.a.txt',
  }
  for (const name of Object.values(names)) {
    writeFileSync(join(folder, name), 'x')
    if (name !== names.fresh) utimesSync(join(folder, name), 1000, 1000)
  }
  const host = hostPlugin(uploads, { files: one()(folder) })
  await host.start()
  assert.deepEqual(readdirSync(folder).sort(), [names.other, names.fresh, names.odd].sort())
  await host.stop()
  rmSync(folder, { recursive: true })
})

test('a relative path counts from the working directory, and is shown as configured', async () => {
  const files = (folder: string) => ({ a: { path: relative(process.cwd(), join(folder, 'a')) } })
  await withUploads(files, async (host, folder) => {
    const answer = (await (await post(host, 'a', 'x')).json()) as { file: string }
    assert.equal(answer.file, relative(process.cwd(), join(folder, 'a')))
    assert.equal(readFileSync(join(folder, 'a'), 'utf8'), 'x')
  })
})

test('configuration: defaults and what is refused', () => {
  const defaults = v.parse(uploads.config, { files: { a: { path: '/x' } } })
  assert.deepEqual(defaults.files.a, {
    path: '/x',
    max_bytes: 64 * 1024 * 1024,
    verify_timeout_s: 30,
    keep: 0,
    follow_symlinks: false,
    idle_timeout_s: 30,
    max_parallel: 16,
  })
  for (const file of [
    {},
    { path: '' },
    { path: '/x', mode: '0999' },
    { path: '/x', owner: 'a:b:c' },
    { path: '/x', max_bytes: -1 },
    { path: '/x', verify: [] },
    { path: '/x', colour: 'red' },
  ]) {
    assert.equal(v.safeParse(uploads.config, { files: { a: file } }).success, false)
  }
})
