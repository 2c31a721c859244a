import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { HostConfig } from '../../plugins/supervisor/host/host-config.ts'
import { parseHostConfig } from '../../plugins/supervisor/host/host-config-input.ts'
import { HostError } from '../../plugins/supervisor/host/host-error.ts'
import { renderRedsocks } from '../../plugins/supervisor/host/redsocks.ts'
import { Systemd } from '../../plugins/supervisor/host/systemd.ts'

const UUID = '0123456789abcdef0123456789abcdef'
const PROXY = { type: 'socks5', ip: '10.0.0.9', port: 1080 }

/** A host: files below a folder, and a systemctl that records what it is asked. */
interface Host {
  readonly root: string
  readonly config: HostConfig
  readonly file: (name: string) => string | undefined
  /** Calls of systemctl since the last time. */
  readonly calls: () => string[]
  /** What systemctl does from now on, as the body of a shell script. */
  readonly systemctl: (script: string) => void
  /** Sends a PATCH; answers what changed, and how often locks were taken. */
  readonly patch: (network: object) => Promise<{ changed: readonly string[]; locked: number }>
}

interface More {
  readonly command?: (root: string) => string[]
  readonly dryRun?: boolean
  readonly kernel?: boolean
}

async function withHost(body: (host: Host) => Promise<void>, more: More = {}): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'cvmd-host-'))
  const script = join(root, 'systemctl')
  const log = join(root, 'calls')
  const systemctl = (text: string) => {
    writeFileSync(script, `#!/bin/sh\necho "$*" >> '${log}'\n${text}\n`)
    chmodSync(script, 0o755)
  }
  systemctl('')
  mkdirSync(join(root, 'etc'))
  mkdirSync(join(root, 'kernel'))
  writeFileSync(join(root, 'etc/hostname'), 'before\n')
  if (more.kernel ?? true) writeFileSync(join(root, 'kernel/hostname'), 'before\n')
  const config = new HostConfig({
    proxyFolder: join(root, 'boot/system-proxy'),
    hostname: {
      file: join(root, 'etc/hostname'),
      kernelFile: join(root, 'kernel/hostname'),
      command: more.command?.(root),
    },
    uuid: () => UUID,
    systemd: new Systemd({ systemctl: [script], dryRun: more.dryRun ?? false }),
  })
  const read = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8') : undefined)
  try {
    await config.start()
    await body({
      root,
      config,
      systemctl,
      file: (name) => read(join(root, name)),
      calls: () => {
        const lines = (read(log) ?? '').split('\n').filter((line) => line !== '')
        rmSync(log, { force: true })
        return lines
      },
      patch: async (network) => {
        let locked = 0
        const { changed } = await config.patch(parseHostConfig({ network }), async (work) => {
          locked++
          await work()
        })
        return { changed, locked }
      },
    })
    const folder = join(root, 'boot/system-proxy')
    const left = existsSync(folder) ? readdirSync(folder) : []
    assert.deepEqual(
      left.filter((name) => name.startsWith('.')),
      [],
      'temporary files stayed',
    )
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

const REDSOCKS = 'boot/system-proxy/redsocks.conf'
const NO_PROXY = 'boot/system-proxy/no_proxy'

const RESTARTS = ['restart balena-proxy-config', 'restart redsocks']
const ASKED = ['show --property=PartOf --value balena-proxy-config', RESTARTS[0]].concat([
  'show --property=PartOf --value redsocks',
  RESTARTS[1],
])

test('a proxy is written, shown, merged and removed', async () => {
  await withHost(async ({ config, patch, file, calls, root }) => {
    assert.deepEqual(await config.read(), { network: { hostname: 'before' } })
    assert.deepEqual(await patch({ proxy: PROXY }), { changed: ['proxy'], locked: 1 })
    assert.deepEqual(calls(), ASKED)
    assert.equal(file(REDSOCKS), renderRedsocks(PROXY))
    assert.equal(statSync(join(root, REDSOCKS)).mode & 0o777, 0o600)
    assert.deepEqual(await config.read(), { network: { hostname: 'before', proxy: PROXY } })

    await patch({ proxy: { login: 'u', password: 'p', dns: true } })
    const more = { ...PROXY, login: 'u', password: 'p', dns: '8.8.8.8:53' }
    assert.equal(file(REDSOCKS), renderRedsocks(more))
    await patch({ proxy: { ip: '10.0.0.10', noProxy: ['10.0.0.0/8', 'a.example'] } })
    assert.equal(file(NO_PROXY), '10.0.0.0/8\na.example')
    assert.deepEqual((await config.read()).network.proxy, {
      ...more,
      ip: '10.0.0.10',
      noProxy: ['10.0.0.0/8', 'a.example'],
    })
    await patch({ proxy: { dns: false } })
    assert.equal((await config.read()).network.proxy?.dns, undefined)
    assert.equal(file(NO_PROXY), '10.0.0.0/8\na.example')

    calls()
    assert.deepEqual(await patch({ proxy: {} }), { changed: ['proxy'], locked: 1 })
    assert.equal(file(REDSOCKS), undefined)
    assert.equal(file(NO_PROXY), '10.0.0.0/8\na.example', 'exceptions are separate')
    assert.deepEqual(calls(), ASKED)
    assert.deepEqual(await patch({ proxy: { noProxy: [] } }), { changed: ['no_proxy'], locked: 1 })
    assert.equal(file(NO_PROXY), undefined)
    assert.deepEqual(await config.read(), { network: { hostname: 'before' } })
  })
})

test('only no_proxy changes with noProxy alone', async () => {
  await withHost(async ({ patch, file }) => {
    await patch({ proxy: PROXY })
    const before = file(REDSOCKS)
    assert.deepEqual((await patch({ proxy: { noProxy: ['a'] } })).changed, ['no_proxy'])
    assert.deepEqual((await patch({ proxy: { noProxy: [] } })).changed, ['no_proxy'])
    assert.equal(file(REDSOCKS), before)
  })
})

test('without a change nothing is locked, written or restarted', async () => {
  await withHost(async ({ config, patch, file, calls, root }) => {
    await patch({ proxy: { ...PROXY, noProxy: ['a'] }, hostname: 'name' })
    const byHand = file(REDSOCKS)?.replaceAll('\t', '    ') ?? ''
    writeFileSync(join(root, REDSOCKS), byHand)
    calls()
    for (const network of [
      {},
      { hostname: 'name' },
      { proxy: PROXY },
      { proxy: { ip: PROXY.ip, noProxy: ['a'] } },
      { proxy: { local_ip: '1.2.3.4', local_port: 1 } },
      { proxy: { dns: false } },
    ]) {
      assert.deepEqual(await patch(network), { changed: [], locked: 0 }, JSON.stringify(network))
    }
    assert.equal(file(REDSOCKS), byHand)
    await patch({ proxy: {} })
    for (const proxy of [{}, { dns: true }, { dns: '1.1.1.1:53' }, { dns: false }]) {
      assert.deepEqual(await patch({ proxy }), { changed: [], locked: 0 }, JSON.stringify(proxy))
    }
    assert.equal(file(REDSOCKS), undefined)
    assert.equal((await config.read()).network.hostname, 'name')
  })
})

test('a proxy of an unknown type is taken and shown', async () => {
  await withHost(async ({ config, patch }) => {
    await patch({ proxy: { ...PROXY, type: 'carrier-pigeon' } })
    assert.equal((await config.read()).network.proxy?.type, 'carrier-pigeon')
  })
})

test('a hostname is stored, in force and shown at once', async () => {
  await withHost(async ({ config, patch, file, calls }) => {
    assert.deepEqual(await patch({ hostname: 'new-name' }), { changed: ['hostname'], locked: 1 })
    assert.equal(file('etc/hostname'), 'new-name\n')
    assert.equal(file('kernel/hostname'), 'new-name')
    assert.deepEqual(await config.read(), { network: { hostname: 'new-name' } })
    assert.deepEqual(calls(), [], 'no unit has to do with it')
    await patch({ hostname: '' })
    assert.equal(file('etc/hostname'), `${UUID.slice(0, 7)}\n`)
  })
})

test('a running name that cannot be changed is a warning', async () => {
  await withHost(
    async ({ config, file }) => {
      const input = parseHostConfig({ network: { hostname: 'new-name' } })
      const { changed, warnings } = await config.patch(input, (work) => work())
      assert.deepEqual(changed, ['hostname'])
      assert.equal(warnings.length, 1)
      assert.match(warnings[0] ?? '', /^Cannot change the running hostname in ".*": ENOENT/)
      assert.equal(file('etc/hostname'), 'new-name\n')
      assert.equal(file('kernel/hostname'), undefined)
    },
    { kernel: false },
  )
})

test('a command sets the name where one is given, without a shell', async () => {
  const command = (root: string) => {
    const path = join(root, 'hostnamectl')
    writeFileSync(path, `#!/bin/sh\necho "$#:$*" > '${root}/set'\nexit \${FAIL:-0}\n`)
    chmodSync(path, 0o755)
    return [path, 'hostname']
  }
  await withHost(
    async ({ patch, file }) => {
      await patch({ hostname: 'new-name' })
      assert.equal(file('set'), '2:hostname new-name\n')
      assert.equal(file('etc/hostname'), 'before\n')
    },
    { command },
  )
  await withHost(
    async ({ patch }) => {
      await assert.rejects(patch({ hostname: 'new-name' }), {
        code: 'HOST_COMMAND_FAILED',
        status: 503,
        message: 'Cannot set the hostname: "/nonexistent/hostnamectl" is not installed',
      })
    },
    { command: () => ['/nonexistent/hostnamectl'] },
  )
})

test('a hostname file that is a mount point, as in containers, is written in place', async (t) => {
  await withHost(async ({ config, patch, root }) => {
    const path = join(root, 'etc/hostname')
    const inside = join(root, 'inside')
    writeFileSync(inside, 'a-long-name-from-outside\n')
    if (spawnSync('mount', ['--bind', inside, path], { stdio: 'ignore' }).status !== 0) {
      t.skip('needs the right to mount')
      return
    }
    try {
      assert.deepEqual((await patch({ hostname: 'new-name' })).changed, ['hostname'])
      assert.equal(readFileSync(inside, 'utf8'), 'new-name\n')
      assert.equal((await config.read()).network.hostname, 'new-name')
      assert.deepEqual(readdirSync(join(root, 'etc')), ['hostname'])
    } finally {
      spawnSync('umount', [path])
    }
  })
})

test('a comment is no name, and a missing file none', async () => {
  await withHost(async ({ config, root }) => {
    writeFileSync(join(root, 'etc/hostname'), '# comment\n\n  spaced  \nother\n')
    assert.equal((await config.read()).network.hostname, 'spaced')
    rmSync(join(root, 'etc/hostname'))
    assert.equal((await config.read()).network.hostname, '')
  })
})

test('units the system watches itself are not restarted', async () => {
  await withHost(async ({ patch, systemctl, calls }) => {
    systemctl('case "$*" in show*redsocks) echo "a.target redsocks-conf.target" ;; esac')
    await patch({ proxy: PROXY })
    assert.deepEqual(
      calls().filter((call) => call.startsWith('restart')),
      RESTARTS.slice(0, 1),
    )
  })
})

test('the old name of a unit is tried after the new one', async () => {
  await withHost(async ({ patch, systemctl, calls }) => {
    systemctl('case "$*" in "restart balena-proxy-config") echo unknown >&2; exit 5 ;; esac')
    await patch({ proxy: PROXY })
    assert.deepEqual(
      calls().filter((call) => call.startsWith('restart')),
      [RESTARTS[0], 'restart resin-proxy-config', RESTARTS[1]],
    )
    systemctl('echo "no such unit" >&2; exit 5')
    await assert.rejects(patch({ proxy: {} }), (error) => {
      assert.ok(error instanceof HostError)
      assert.deepEqual([error.code, error.status], ['HOST_COMMAND_FAILED', 503])
      assert.match(
        error.message,
        /^Cannot restart unit "resin-proxy-config": ".*" ended with exit status 5: no such unit$/,
      )
      return true
    })
  })
})

test('a dry run restarts nothing', async () => {
  await withHost(
    async ({ patch, calls }) => {
      await patch({ proxy: PROXY })
      assert.deepEqual(
        calls().filter((call) => call.startsWith('restart')),
        [],
      )
    },
    { dryRun: true },
  )
})

test('a lock in the way leaves everything as it was', async () => {
  await withHost(async ({ config, file, calls }) => {
    const input = parseHostConfig({ network: { proxy: PROXY, hostname: 'new-name' } })
    const refused = config.patch(input, () => Promise.reject(new Error('locked')))
    await assert.rejects(refused, /^Error: locked$/)
    assert.equal(file(REDSOCKS), undefined)
    assert.equal(file('etc/hostname'), 'before\n')
    assert.deepEqual(calls(), [])
    assert.deepEqual((await config.patch(input, (work) => work())).changed, ['proxy', 'hostname'])
  })
})

test('changes come one after another, none is lost', async () => {
  await withHost(async ({ config, patch }) => {
    await patch({ proxy: PROXY })
    const changes = [
      { login: 'u' },
      { password: 'p' },
      { dns: true },
      { port: 1 },
      { ip: '1.1.1.1' },
    ]
    await Promise.all(changes.map((proxy) => patch({ proxy })))
    assert.deepEqual((await config.read()).network.proxy, {
      type: 'socks5',
      ip: '1.1.1.1',
      port: 1,
      login: 'u',
      password: 'p',
      dns: '8.8.8.8:53',
    })
  })
})

test('files keep their permissions, and what a crash left goes at start', async () => {
  await withHost(async ({ config, patch, root }) => {
    await patch({ proxy: { ...PROXY, noProxy: ['a'] } })
    chmodSync(join(root, REDSOCKS), 0o640)
    await patch({ proxy: { port: 1 } })
    assert.equal(statSync(join(root, REDSOCKS)).mode & 0o777, 0o640)
    const old = join(root, 'boot/system-proxy/.cvmd-0123456789ab.redsocks.conf')
    writeFileSync(old, 'half')
    utimesSync(old, 1, 1)
    await config.start()
    assert.equal(existsSync(old), false)
  })
})

test('a file that cannot be read or written is said, with its path', async () => {
  await withHost(async ({ config, patch, root }) => {
    await patch({ proxy: PROXY })
    rmSync(join(root, REDSOCKS))
    mkdirSync(join(root, REDSOCKS))
    const failure = { name: 'HostError', code: 'HOST_CONFIG_FAILED', status: 503 }
    await assert.rejects(config.read(), failure)
    await assert.rejects(patch({ proxy: { port: 1 } }), failure)
    rmSync(join(root, REDSOCKS), { recursive: true })
    rmSync(join(root, 'boot'), { recursive: true })
    writeFileSync(join(root, 'boot'), '')
    await assert.rejects(patch({ proxy: PROXY }), failure)
  })
})
