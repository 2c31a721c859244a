import assert from 'node:assert/strict'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { type NetworkInterfaceInfo, networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { Addresses, ipAddresses, macAddresses } from '../../plugins/supervisor/host/addresses.ts'
import { parseOsRelease, readDeviceInfo } from '../../plugins/supervisor/host/device-info.ts'
import { HostError } from '../../plugins/supervisor/host/host-error.ts'
import { Systemd } from '../../plugins/supervisor/host/systemd.ts'
import { DeviceTags, parseTags } from '../../plugins/supervisor/host/tags.ts'
import { vpnStatus } from '../../plugins/supervisor/host/vpn.ts'

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-info-'))
  try {
    await body(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function write(folder: string, files: Record<string, string>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(folder, path, '..'), { recursive: true })
    writeFileSync(join(folder, path), text)
  }
}

function address(family: 'IPv4' | 'IPv6', text: string, more: object = {}): NetworkInterfaceInfo {
  return {
    family,
    address: text,
    netmask: '',
    mac: '02:fc:00:00:00:01',
    internal: false,
    cidr: null,
    ...(family === 'IPv6' ? { scopeid: 0 } : {}),
    ...more,
  } as NetworkInterfaceInfo
}

test('addresses others can use, IPv4 first, not those of engines and tunnels', () => {
  const four = (text: string) => [address('IPv4', text)]
  assert.deepEqual(
    ipAddresses({
      lo: [address('IPv4', '127.0.0.1', { internal: true })],
      eth0: [
        address('IPv6', 'fe80::1', { scopeid: 2 }),
        address('IPv6', '2001:db8::1'),
        address('IPv4', '192.168.0.114'),
      ],
      wlan0: four('10.42.0.3'),
      gone: undefined,
      docker0: four('172.17.0.1'),
      balena0: four('172.18.0.1'),
      rce1: four('172.19.0.1'),
      tun0: four('10.8.0.1'),
      'resin-vpn': four('10.9.0.1'),
      'resin-dns': four('10.114.102.1'),
      supervisor0: four('10.114.104.1'),
      'balena-redsocks': four('10.1.0.1'),
      'resin-redsocks': four('10.2.0.1'),
      'br-0123456789ab': four('172.20.0.1'),
      'br-lan': four('192.168.7.1'),
      dockerx: four('192.168.8.1'),
      tuna: four('192.168.9.1'),
    }),
    ['192.168.0.114', '10.42.0.3', '192.168.7.1', '192.168.8.1', '192.168.9.1', '2001:db8::1'],
  )
  assert.deepEqual(ipAddresses({}), [])
  for (const ip of ipAddresses(networkInterfaces())) assert.doesNotMatch(ip, /^(127\.|fe80:|::1$)/)
})

/** An interface as the kernel shows it. */
const card = (index: number, mac: string, type = '1') => ({
  type: `${type}\n`,
  address: `${mac}\n`,
  ifindex: `${index}\n`,
})

test('MAC addresses of Ethernet without a master, in the order of the kernel', async () => {
  await withFolder(async (folder) => {
    for (const [name, files] of Object.entries({
      wlan0: card(7, '6e:71:16:c6:06:6c'),
      eth0: card(2, '02:fc:00:00:00:01'),
      lo: card(1, '00:00:00:00:00:00', '772'),
      tun0: card(3, '', '65534'),
      dummy0: card(4, '00:00:00:00:00:00'),
      veth1: card(5, '02:00:00:00:00:05'),
      twin: card(9, '02:fc:00:00:00:01'),
      odd: card(10, 'not a mac'),
    })) {
      write(join(folder, name), files)
    }
    symlinkSync('../br0', join(folder, 'veth1', 'master'))
    writeFileSync(join(folder, 'bonding_masters'), '')
    mkdirSync(join(folder, 'leaving'))
    assert.deepEqual(await macAddresses(folder), ['02:FC:00:00:00:01', '6E:71:16:C6:06:6C'])
    assert.deepEqual(await macAddresses(join(folder, 'none')), [])
  })
  assert.ok(Array.isArray(await macAddresses('/sys/class/net')))
})

test('addresses are joined by spaces, and read again when they are old', async () => {
  await withFolder(async (folder) => {
    write(join(folder, 'eth0'), card(2, '02:fc:00:00:00:01'))
    write(join(folder, 'eth1'), card(3, '02:fc:00:00:00:02'))
    let now = 0
    let reads = 0
    let ips = ['192.168.0.1', '10.0.0.1']
    const addresses = new Addresses({
      interfaces: () => {
        reads++
        return { eth0: ips.map((ip) => address('IPv4', ip)) }
      },
      netFolder: folder,
      now: () => now,
    })
    const first = { ip: '192.168.0.1 10.0.0.1', mac: '02:FC:00:00:00:01 02:FC:00:00:00:02' }
    assert.deepEqual(await Promise.all([addresses.get(), addresses.get()]), [first, first])
    ips = []
    now = 29_999
    assert.deepEqual(await addresses.get(), first)
    assert.equal(reads, 1)
    // What is a little old is given once more, so that nobody waits.
    now = 30_000
    assert.deepEqual(await addresses.get(), first)
    assert.equal(reads, 2)
    now = 60_000
    assert.equal((await addresses.get()).ip, undefined)
  })
})

test('where nothing can be read there are no addresses, or those the runtime knows', async () => {
  const netFolder = '/nonexistent'
  const refuse = () => {
    throw new Error('refused')
  }
  assert.deepEqual(await new Addresses({ interfaces: refuse, netFolder }).get(), {
    ip: undefined,
    mac: undefined,
  })
  const interfaces = () => ({
    eth0: [address('IPv4', '192.168.0.1'), address('IPv6', 'fe80::1', { scopeid: 2 })],
    docker0: [address('IPv4', '172.17.0.1', { mac: '02:42:00:00:00:01' })],
  })
  assert.equal((await new Addresses({ interfaces, netFolder }).get()).mac, '02:FC:00:00:00:01')
})

test('os-release is read as a shell would', () => {
  const read = (text: string) => Object.fromEntries(parseOsRelease(text))
  assert.deepEqual(
    read(
      `${String.raw`
# comment
NAME="balenaOS"
PRETTY_NAME="balenaOS 2.98.33"
VARIANT_ID=prod
QUOTED='it has "quotes"'
ESCAPED="a\"b\$c\\d"
`}EMPTY=\nlower=case\nno line\n=x\n`,
    ),
    {
      NAME: 'balenaOS',
      PRETTY_NAME: 'balenaOS 2.98.33',
      VARIANT_ID: 'prod',
      QUOTED: 'it has "quotes"',
      ESCAPED: 'a"b$c\\d',
      EMPTY: '',
    },
  )
})

test('any value comes back from os-release, and no text breaks the reader', () => {
  const quote = (text: string) => `"${text.replace(/[\\"$`]/g, '\\$&')}"`
  fc.assert(
    fc.property(
      fc.string().filter((text) => !/[\n\r]/.test(text)),
      (text) => {
        assert.equal(parseOsRelease(`A=1\nPRETTY_NAME=${quote(text)}\n`).get('PRETTY_NAME'), text)
      },
    ),
  )
  fc.assert(fc.property(fc.string(), (text) => assert.ok(parseOsRelease(text))))
  for (const piece of ['A="\\', 'A=\\\\', "A='", 'A'])
    assert.ok(parseOsRelease(piece.repeat(20_000)))
})

test('what the device is', async () => {
  await withFolder(async (folder) => {
    const info = (more: object = {}) => readDeviceInfo({ root: folder, arch: 'x64', ...more })
    assert.deepEqual(await info(), {
      osVersion: undefined,
      osVariant: undefined,
      arch: 'amd64',
      deviceType: 'generic-amd64',
    })
    write(folder, { 'usr/lib/os-release': 'PRETTY_NAME="Debian 12"\nVARIANT_ID=x\n' })
    assert.equal((await info()).osVersion, 'Debian 12')
    mkdirSync(join(folder, 'etc'))
    symlinkSync('../usr/lib/os-release', join(folder, 'etc/os-release'))
    assert.deepEqual(await info({ arch: 'arm64', deviceType: 'my-board' }), {
      osVersion: 'Debian 12',
      osVariant: 'x',
      arch: 'aarch64',
      deviceType: 'my-board',
    })
    assert.equal((await info({ arch: 'riscv64' })).arch, 'riscv64')
    rmSync(join(folder, 'etc/os-release'))
    write(folder, { 'etc/os-release': 'PRETTY_NAME=\n' })
    assert.equal((await info()).osVersion, undefined)
  })
})

test('the VPN: enabled by its unit, connected by a file', async () => {
  await withFolder(async (folder) => {
    const script = join(folder, 'systemctl')
    writeFileSync(script, `#!/bin/sh\necho "$*" > '${folder}/asked'\ntest -e '${folder}/up'\n`)
    chmodSync(script, 0o755)
    const status = (program: string) =>
      vpnStatus({
        statusFolder: join(folder, 'vpn'),
        unit: 'openvpn',
        systemd: new Systemd({ systemctl: [program] }),
      })
    assert.deepEqual(await status(script), { enabled: false, connected: false })
    assert.equal(readFileSync(join(folder, 'asked'), 'utf8'), 'is-active --quiet openvpn\n')
    write(folder, { up: '', 'vpn/active': '' })
    assert.deepEqual(await status(script), { enabled: true, connected: true })
    assert.deepEqual(await status('/nonexistent'), { enabled: false, connected: true })
  })
})

test('tags are set, kept, and shown with an id that stays', async () => {
  await withFolder(async (folder) => {
    const path = join(folder, 'tags.json')
    const tags = new DeviceTags(path, assert.fail)
    await tags.load()
    assert.deepEqual(tags.list(), [])
    await tags.patch({ k: 'v', __proto__: 'not a member', other: '' })
    await tags.patch(JSON.parse('{"__proto__":"p","k":"w"}'))
    const expected = [
      { id: 1, name: 'k', value: 'w' },
      { id: 2, name: 'other', value: '' },
      { id: 3, name: '__proto__', value: 'p' },
    ]
    assert.deepEqual(tags.list(), expected)
    assert.equal(statSync(path).mode & 0o777, 0o600)
    const again = new DeviceTags(path, assert.fail)
    await again.load()
    assert.deepEqual(again.list(), expected)
    await Promise.all([again.patch({ a: '1' }), again.patch({ b: '2' }), again.patch([])])
    assert.deepEqual(again.list().slice(3), [
      { id: 4, name: 'a', value: '1' },
      { id: 5, name: 'b', value: '2' },
    ])
    assert.deepEqual(readdirSync(folder), ['tags.json'])
  })
})

test('wrong tags are refused in the words of balena', async () => {
  const body = 'Invalid tags body, must be an object like `{[tagKey: string]: string}`'
  const space = 'Tag keys cannot contain whitespace'
  for (const [value, message] of [
    [undefined, body],
    [null, body],
    ['text', body],
    [5, body],
    [{ a: 1 }, body],
    [{ a: null }, body],
    [{ a: 'b', c: {} }, body],
    [{ 'a b': 1 }, body],
    [[1], body],
    [{ 'a b': 'c' }, space],
    [{ 'a\n': 'c' }, space],
    [{ a: 'b', '\u00a0': 'c' }, space],
    [{ '': 'c' }, 'Tag keys must have 1 to 255 characters'],
    [{ ['k'.repeat(256)]: 'c' }, 'Tag keys must have 1 to 255 characters'],
    [{ k: 'v'.repeat(4097) }, 'Tag values must have at most 4096 characters'],
  ] as const) {
    assert.throws(() => parseTags(value), { code: 'TAGS_INVALID', status: 400, message })
  }
  assert.equal(parseTags([]).size, 0)
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      try {
        for (const [name, text] of parseTags(value)) {
          assert.doesNotMatch(name, /\s/)
          assert.equal(typeof text, 'string')
        }
      } catch (error) {
        assert.ok(error instanceof HostError)
      }
    }),
  )
})

test('tags have a limit, and a failing disk changes nothing', async () => {
  await withFolder(async (folder) => {
    const path = join(folder, 'tags.json')
    const tags = new DeviceTags(path, assert.fail)
    const many = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`k${i}`, 'v']))
    await tags.patch(many)
    await assert.rejects(tags.patch({ more: 'v' }), { code: 'TAGS_INVALID', status: 400 })
    await tags.patch({ k5: 'w' })
    assert.equal(tags.list().length, 1000)
    rmSync(path)
    mkdirSync(path)
    await assert.rejects(tags.patch({ k5: 'x' }), { code: 'TAGS_FAILED', status: 500 })
    assert.equal(tags.list()[5]?.value, 'w')
    rmSync(path, { recursive: true })
    // Containers run all the same.
    for (const bad of ['', '{}', '{"version":1,"last_id":0,"tags":[{"id":0}]}']) {
      writeFileSync(path, bad)
      const said: string[] = []
      const fresh = new DeviceTags(path, (message) => said.push(message))
      await fresh.load()
      assert.deepEqual(fresh.list(), [])
      assert.match(said.join(), /tags\.json" is unusable, moved to/)
      await fresh.patch({ k: 'v' })
    }
  })
})
