import assert from 'node:assert/strict'
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  type Seed,
  seedFiles,
  seedImage,
} from '../plugins/zos/drivers/cloud-hypervisor/cloud-init.ts'
import { isPrivate } from '../plugins/zos/drivers/cloud-hypervisor/download.ts'
import {
  FAT_CAPACITY,
  FAT_IMAGE_BYTES,
  fatImage,
} from '../plugins/zos/drivers/cloud-hypervisor/fat.ts'
import { makeRootDisk, rootImageOf } from '../plugins/zos/drivers/cloud-hypervisor/root-image.ts'
import { macOf } from '../plugins/zos/drivers/cloud-hypervisor/taps.ts'
import { oldProblem } from '../plugins/zos/drivers/cloud-hypervisor/versions.ts'
import { createSelfSigned } from '../src/tls/self-signed.ts'
import { afterTest, cleanAfterEach } from './helpers/after-test.ts'
import { installed, lacks } from './helpers/counterpart.ts'
import { freshFolder } from './helpers/daemon.ts'
import { readFat } from './helpers/zos-fat.ts'
import { sh, succeeds } from './helpers/zos-network-host.ts'

const SEED: Seed = {
  id: '1-2-vm',
  hostname: 'vm',
  env: new Map([
    ['SSH_KEY', 'ssh-ed25519 AAAA one\nssh-ed25519 BBBB two,ssh-ed25519 CCCC three'],
    ['QUOTE', `it's $HOME "x"\n#cloud-config: no`],
    ['not a name', 'left out'],
  ]),
  entrypoint: `serve 'a b' && echo done`,
  nics: [
    {
      mac: '02:00:00:00:00:01',
      addresses: ['10.1.2.5/24'],
      routes: [{ to: '0.0.0.0/0', via: '10.1.2.1' }],
    },
  ],
  nameservers: ['1.1.1.1'],
  mounts: [
    { kind: 'disk', device: '/dev/vdb', target: '/data' },
    { kind: 'share', tag: 'files', target: '/files' },
  ],
}

function folderOf(): string {
  const folder = freshFolder()
  afterTest(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

describe('the disk for cloud-init', () => {
  cleanAfterEach()

  it('has what was put on it, whatever it is', () => {
    const content = fc.uint8Array({ maxLength: 10_000 })
    const name = fc.stringMatching(/^[a-z0-9-]{1,64}$/)
    const files = fc.uniqueArray(fc.record({ name, content }), {
      maxLength: 12,
      selector: (file) => file.name,
    })
    fc.assert(
      fc.property(files, (given) => {
        const found = readFat(fatImage('CIDATA', given))
        assert.equal(found.label, 'CIDATA')
        assert.deepEqual(
          found.files.map(({ name, content }) => [name, [...content]]),
          given.map(({ name, content }) => [name, [...content]]),
        )
      }),
      { numRuns: 30 },
    )
  })

  it('is full at its capacity, and not before', () => {
    const whole = { name: 'a', content: new Uint8Array(FAT_CAPACITY).fill(7) }
    const image = fatImage('X', [whole])
    assert.equal(image.length, FAT_IMAGE_BYTES)
    assert.deepEqual(readFat(image).files[0]?.content.length, FAT_CAPACITY)
    const more = { name: 'b', content: new Uint8Array(1) }
    assert.throws(() => fatImage('X', [whole, more]), RangeError)
  })

  it('is what other programs take for one', async (t) => {
    if (lacks(t, 'fsck.fat', installed('fsck.fat') && installed('mcopy'))) return
    const folder = folderOf()
    const path = join(folder, 'seed.img')
    writeFileSync(path, seedImage(SEED))
    const told = sh('fsck.fat', '-n', '-v', path)
    assert.match(told, /12 bits|FAT12|bytes per FAT/)
    assert.doesNotMatch(told, /differ|Bad|error|wrong/i)
    sh('mcopy', '-n', '-i', path, '::*', folder)
    for (const [name, text] of Object.entries(seedFiles(SEED))) {
      assert.equal(readFileSync(join(folder, name), 'utf8'), text)
    }
    if (installed('blkid'))
      assert.equal(sh('blkid', '-s', 'LABEL', '-o', 'value', path), 'CIDATA\n')
  })

  it('tells a machine its name, addresses, environment and disks', () => {
    const files = seedFiles(SEED)
    assert.deepEqual(JSON.parse(files['meta-data'] ?? ''), {
      'instance-id': '1-2-vm',
      'local-hostname': 'vm',
    })
    assert.deepEqual(JSON.parse(files['network-config'] ?? ''), {
      version: 2,
      ethernets: {
        eth0: {
          match: { macaddress: '02:00:00:00:00:01' },
          'set-name': 'eth0',
          dhcp4: false,
          dhcp6: false,
          addresses: ['10.1.2.5/24'],
          routes: [{ to: '0.0.0.0/0', via: '10.1.2.1' }],
          nameservers: { addresses: ['1.1.1.1'] },
        },
      },
    })
    const [head, body = '', ...rest] = (files['user-data'] ?? '').split('\n')
    assert.equal(head, '#cloud-config')
    assert.deepEqual(rest, [''])
    const data = JSON.parse(body)
    const keys = ['one', 'two', 'three'].map((name, index) => {
      return `ssh-ed25519 ${'ABC'.charAt(index).repeat(4)} ${name}`
    })
    assert.deepEqual(data.users, ['default', { name: 'root', ssh_authorized_keys: keys }])
    assert.deepEqual(data.mounts, [
      ['/dev/vdb', '/data', 'auto', 'defaults,nofail', '0', '2'],
      ['files', '/files', 'virtiofs', 'defaults,nofail', '0', '0'],
    ])
    assert.deepEqual(data.fs_setup, [{ device: '/dev/vdb', filesystem: 'ext4', overwrite: false }])
    const [environment, entrypoint] = data.write_files
    assert.equal(environment.permissions, '0600')
    assert.equal(entrypoint.permissions, '0700')
    // What a shell makes of it.
    const folder = folderOf()
    writeFileSync(join(folder, 'environment'), environment.content)
    const script = `. ${folder}/environment; printf %s "$QUOTE"`
    assert.equal(sh('sh', '-c', script), SEED.env.get('QUOTE'))
    writeFileSync(join(folder, 'entrypoint'), entrypoint.content)
    assert.ok(succeeds('sh', '-n', join(folder, 'entrypoint')))
    assert.doesNotMatch(environment.content, /left out/)
  })

  it('refuses what does not fit', () => {
    const env = new Map([['LARGE', 'x'.repeat(FAT_CAPACITY)]])
    assert.throws(() => seedImage({ ...SEED, env }), {
      name: 'DriverError',
      message: /^Cannot tell the machine its environment and entrypoint: they are above \d+ KiB$/,
    })
  })

  it('names network cards as the reference does', () => {
    // zosbase pkg/network/ifaceutil, test of HardwareAddrFromInputBytes.
    assert.equal(macOf(''), 'd6:1d:8c:d9:8f:00')
  })

  it('is for versions that keep to a format', () => {
    for (const version of ['50.1', '50.1.0', '51.0', 'v51.1-3-gabc', '100']) {
      assert.equal(oldProblem(version), undefined, version)
    }
    for (const version of ['50.0', '50', '49.9', '5.2', '0.15.0', 'unknown', '']) {
      assert.notEqual(oldProblem(version), undefined, version)
    }
  })
})

/** A server of images, with a certificate of its own. */
async function imageServer(
  answer: (path: string, response: ServerResponse) => void,
): Promise<{ url(path: string): string; ca: string; requests: string[] }> {
  const { cert, key } = createSelfSigned(['localhost'], Date.now())
  const requests: string[] = []
  const server = createServer({ cert, key }, (request, response) => {
    requests.push(`${request.headers.host} ${request.url}`)
    answer(request.url ?? '', response)
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  afterTest(() => {
    server.closeAllConnections()
    return new Promise((closed) => server.close(closed))
  })
  const { port } = server.address() as AddressInfo
  return { url: (path) => `https://localhost:${port}${path}`, ca: cert, requests }
}

const DISK = Buffer.concat([
  Buffer.alloc(300_000, 'a'),
  Buffer.alloc(400_000),
  Buffer.alloc(4096, 'b'),
])

describe('images from the network', () => {
  cleanAfterEach()

  it('come whole, with holes where they are empty, and tell how far they are', async () => {
    const server = await imageServer((path, response) => {
      if (path === '/from.img') return response.writeHead(302, { location: '/to?signed' }).end()
      response.writeHead(200, { 'content-length': DISK.length }).end(DISK)
    })
    const path = join(folderOf(), 'root.img')
    const told: string[] = []
    const size = 8n * 1024n * 1024n
    const task = {
      progress: (text: string) => told.push(text),
      signal: new AbortController().signal,
    }
    const image = rootImageOf(server.url('/from.img'))
    await makeRootDisk(image, path, size, { ca: server.ca, privateHosts: true }, task)
    const found = readFileSync(path)
    assert.equal(BigInt(found.length), size)
    assert.ok(found.subarray(0, DISK.length).equals(DISK))
    assert.ok(found.subarray(DISK.length).every((byte) => byte === 0))
    assert.ok(statSync(path).blocks * 512 < DISK.length)
    assert.match(told.at(-1) ?? '', /^downloading (9\d|100) %$/)
    assert.ok(told.length <= 12)
    assert.match(server.requests[1] ?? '', /^localhost:\d+ \/to\?signed$/)
  })

  const FAILURES = [
    ['/gone.img', 'failed', /: the server answers 404$/],
    ['/busy.img', 'transient', /: the server answers 503$/],
    ['/circle.img', 'failed', /: the server leads on more than 5 times$/],
    ['/plain.img', 'failed', /: the server leads away from https$/],
    ['/cut.img', 'transient', /: (the connection failed|ECONN\w+|ERR_\w+|UND\w+)$/],
    [
      '/large.img',
      'failed',
      /: it has 99999999 bytes, above the root disk's 1048576, ask for a larger size$/,
    ],
    [
      '/endless.img',
      'failed',
      /: it is above the root disk's 1048576 bytes, ask for a larger size$/,
    ],
    ['/cow.img', 'failed', /: it is a qcow2 image, and only raw disks are offered$/],
    ['/packed.img', 'failed', /: it is compressed \(xz\), and only raw disks are offered$/],
  ] as const

  for (const [path, kind, message] of FAILURES) {
    it(`are ${kind} for ${path}, and leave nothing`, async () => {
      const server = await imageServer((asked, response) => {
        if (asked === '/gone.img') return response.writeHead(404).end()
        if (asked === '/busy.img') return response.writeHead(503).end()
        if (asked === '/circle.img') return response.writeHead(301, { location: asked }).end()
        if (asked === '/plain.img') {
          return response.writeHead(301, { location: 'http://localhost/x.img' }).end()
        }
        if (asked === '/large.img')
          return response.writeHead(200, { 'content-length': 99_999_999 }).end('x')
        if (asked === '/cow.img')
          return response.end(Buffer.concat([Buffer.from('514649fb', 'hex'), DISK]))
        if (asked === '/packed.img')
          return response.end(Buffer.concat([Buffer.from('fd377a585a00', 'hex'), DISK]))
        if (asked === '/cut.img') {
          response.writeHead(200, { 'content-length': DISK.length })
          response.write(DISK.subarray(0, 1000), () => response.destroy())
          return
        }
        const more = () => {
          while (!response.destroyed && response.write(DISK));
        }
        response.on('drain', more)
        more()
      })
      const folder = folderOf()
      const disk = join(folder, 'root.img')
      const task = { progress: () => {}, signal: AbortSignal.timeout(30_000) }
      const options = { ca: server.ca, privateHosts: true }
      const made = makeRootDisk(rootImageOf(server.url(path)), disk, 1048576n, options, task)
      await assert.rejects(made, { name: 'DriverError', kind, message })
      assert.equal(succeeds('test', '-e', disk), false)
      assert.equal(succeeds('test', '-e', `${disk}.part`), false)
    })
  }

  it('come from servers that are who they say', async () => {
    const server = await imageServer((_path, response) => response.end(DISK))
    const image = rootImageOf(server.url('/a.img'))
    const task = { progress: () => {}, signal: new AbortController().signal }
    const disk = join(folderOf(), 'root.img')
    const made = makeRootDisk(image, disk, 1048576n, { privateHosts: true }, task)
    await assert.rejects(made, { name: 'DriverError', kind: 'transient' })
    assert.deepEqual(server.requests, [])
    // And not from this node itself, under a name or not.
    const inside = makeRootDisk(image, disk, 1048576n, { ca: server.ca }, task)
    await assert.rejects(inside, {
      kind: 'failed',
      message: /"localhost" is not a public address$/,
    })
    assert.deepEqual(server.requests, [])
  })

  it('come from public addresses', () => {
    for (const address of ['1.1.1.1', '8.8.8.8', '172.32.0.1', '2606:4700::1111', '2a00::1']) {
      assert.equal(isPrivate(address), false, address)
    }
    const inside = ['127.0.0.1', '10.9.9.9', '172.31.255.255', '192.168.1.1', '169.254.169.254']
    const odd = ['0.0.0.0', '100.64.0.1', '224.0.0.1', '255.255.255.255', 'nonsense', '']
    const six = [
      '::1',
      '::',
      '::ffff:8.8.8.8',
      'fe80::1',
      'fd00::1',
      'ff02::1',
      '400::1',
      '64:ff9b::a00:1',
    ]
    for (const address of [...inside, ...odd, ...six])
      assert.equal(isPrivate(address), true, address)
  })

  it('can be given up', async () => {
    const server = await imageServer((_path, response) => {
      response.writeHead(200, { 'content-length': DISK.length })
      response.write(DISK.subarray(0, 1000))
    })
    const stop = new AbortController()
    const task = { progress: () => stop.abort(), signal: stop.signal }
    const disk = join(folderOf(), 'root.img')
    const options = { ca: server.ca, privateHosts: true }
    const made = makeRootDisk(rootImageOf(server.url('/a.img')), disk, 1048576n, options, task)
    await assert.rejects(made, { name: 'AbortError' })
    assert.equal(succeeds('test', '-e', `${disk}.part`), false)
  })
})
