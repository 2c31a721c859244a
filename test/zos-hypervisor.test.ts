import assert from 'node:assert/strict'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { hypervisorLogs } from '../plugins/zos/drivers/cloud-hypervisor/machine-logs.ts'
import { macOf } from '../plugins/zos/drivers/cloud-hypervisor/taps.ts'
import type { Crash, Driver, Task } from '../plugins/zos/drivers/driver.ts'
import { vdiskPath, volumePath } from '../plugins/zos/drivers/names.ts'
import { workloadId } from '../plugins/zos/model.ts'
import { cleanAfterEach } from './helpers/after-test.ts'
import { end, eventually, machineRoom, machineTask, runs } from './helpers/zos-hypervisor.ts'
import { CONTRACT, TWIN } from './helpers/zos-storage-task.ts'

const ID = workloadId(TWIN, CONTRACT, 'vm_1')
const RESULT = { id: ID, ip: '10.1.2.5', planetary_ip: '', mycelium_ip: '', console_url: '' }
const PASSWORD = 'correct-horse-battery'

/** What a provision is refused with. */
async function refusal(driver: Driver<'zmachine'>, task: Task<'zmachine'>) {
  const error = await Promise.resolve(driver.provision(task)).then(
    () => assert.fail('it was provisioned'),
    (thrown) => thrown,
  )
  assert.equal(error.name, 'DriverError', error.stack)
  return error as Error & { readonly kind: string; readonly data: unknown }
}

describe('virtual machines', () => {
  cleanAfterEach()

  it('start, pause, go on and are removed, with every request in its place', async () => {
    const room = machineRoom()
    const driver = room.driver()
    const task = machineTask(room, {
      cpu: 3,
      memory: 700n * 1024n * 1024n + 5n,
      mounts: [
        { name: 'disk', mountpoint: '/data' },
        { name: 'files', mountpoint: '/files' },
      ],
      env: new Map([['PASSWORD', PASSWORD]]),
      entrypoint: 'serve --all',
    })
    assert.deepEqual(await driver.probe(task.signal), { able: true })
    assert.deepEqual(await driver.provision(task), RESULT)
    assert.deepEqual(
      room.requests().filter((line) => line !== 'GET vmm.ping'),
      ['PUT vm.create', 'PUT vm.boot', 'GET vm.info'],
    )
    const own = join(room.options.folder, ID)
    const [tap] = readdirSync(room.options.runFolder)
      .filter((name) => !/-\d+\.sock$/.test(name))
      .map(() => (room.created().net as { tap: string }[])[0]?.tap ?? '')
    assert.ok(tap)
    const at = (name: string) => workloadId(TWIN, CONTRACT, name)
    assert.deepEqual(room.created(), {
      cpus: { boot_vcpus: 3, max_vcpus: 3 },
      memory: { size: 700 * 1024 * 1024, shared: true },
      payload: { firmware: join(room.folder, 'firmware') },
      disks: [
        { path: join(own, 'root.img'), readonly: false, image_type: 'Raw' },
        { path: vdiskPath(room.dataDir, at('disk')), readonly: false, image_type: 'Raw' },
        { path: join(own, 'seed.img'), readonly: true, image_type: 'Raw' },
      ],
      net: [{ tap, mac: macOf(tap) }],
      fs: [
        {
          tag: 'files',
          socket: join(
            room.options.runFolder,
            readdirSync(room.options.runFolder).find((name) => name.endsWith('-0.sock')) ?? '',
          ),
          num_queues: 1,
          queue_size: 1024,
        },
      ],
      rng: { src: '/dev/urandom' },
      serial: { mode: 'File', file: join(own, 'serial.log') },
      console: { mode: 'Off' },
    })
    assert.deepEqual(room.shared(), [volumePath(room.dataDir, at('files'))])
    const root = statSync(join(own, 'root.img'))
    assert.equal(root.size, 500 * 1024 * 1024, 'the least root disk')
    assert.ok(root.blocks * 512 < 1024 * 1024, 'which is sparse')
    assert.ok(readFileSync(join(own, 'root.img')).subarray(0, 4).equals(Buffer.from('disk')))
    assert.equal(statSync(own).mode & 0o777, 0o700)
    assert.equal(statSync(join(own, 'seed.img')).mode & 0o777, 0o600)
    // Nothing secret where other users of the host see it.
    for (const name of ['started', 'requests', 'commands']) {
      assert.equal(readFileSync(join(room.folder, name), 'utf8').includes(PASSWORD), false, name)
    }
    assert.equal(readFileSync(join(own, 'machine.json'), 'utf8').includes(PASSWORD), false)

    await driver.pause?.(task)
    await driver.pause?.(task)
    await driver.resume?.(task)
    await driver.resume?.(task)
    const moves = room.requests().filter((line) => /pause|resume/.test(line))
    assert.deepEqual(moves, ['PUT vm.pause', 'PUT vm.resume'])
    assert.deepEqual(
      (await driver.health?.(task))?.map((check) => check.ok),
      [true, true],
    )
    assert.equal(await driver.logs?.(task, 10), 'booted')

    await driver.deprovision(task)
    assert.deepEqual(readdirSync(room.options.folder), [])
    assert.deepEqual(readdirSync(room.options.runFolder), [])
    for (const pid of room.started()) assert.equal(runs(pid), false)
    assert.ok(room.commands().some((line) => line === `ip link del dev ${tap}`))
    assert.equal(
      room.requests().some((line) => line.startsWith('WRONG')),
      false,
    )
    assert.ok(existsSync(vdiskPath(room.dataDir, at('disk'))), 'its disks are not its own')
    await driver.deprovision(task)
    assert.deepEqual(
      (await driver.health?.(task))?.map((check) => check.ok),
      [false],
    )
  })

  it('are taken over by the next daemon, paused ones too', async () => {
    const room = machineRoom()
    const task = machineTask(room)
    await room.driver().provision(task)
    const [pid = 0] = room.started()
    const next = room.driver()
    assert.deepEqual(await next.provision(task), RESULT)
    await next.pause?.(task)
    assert.deepEqual(await room.driver().provision(task), RESULT)
    assert.deepEqual(room.started(), [pid])
    assert.equal(room.requests().at(-1), 'PUT vm.resume')
    assert.ok(runs(pid))
    await next.deprovision(task)
    assert.equal(runs(pid), false)
  })

  it('start again with their disk after their process was killed', async () => {
    const room = machineRoom()
    const task = machineTask(room)
    await room.driver().provision(task)
    const root = join(room.options.folder, ID, 'root.img')
    writeFileSync(root, 'written by the machine', { flag: 'r+' })
    const [pid = 0] = room.started()
    end(pid)
    await eventually('the process is gone', () => !runs(pid))
    const driver = room.driver()
    assert.deepEqual(await driver.provision(task), RESULT)
    assert.equal(room.started().length, 2)
    assert.match(readFileSync(root, 'latin1').slice(0, 30), /^written by the machine/)
    await driver.deprovision(task)
  })

  it('are seen when they end by themselves, with their last lines but no secrets', async () => {
    const room = machineRoom()
    room.control({ serial: `Kernel panic\r\n\u001b[31mtoken ${PASSWORD}\u001b[0m\nlast\n` })
    const driver = room.driver()
    const task = machineTask(room, { env: new Map([['PASSWORD', PASSWORD]]) })
    const crashes: Crash[] = []
    const stop = new AbortController()
    const watching = driver.watch?.((crash) => crashes.push(crash), stop.signal)
    await driver.provision(task)
    end(room.started()[0] ?? 0)
    await eventually('the crash is told', () => crashes.length > 0)
    assert.deepEqual(crashes, [
      {
        id: ID,
        reason:
          'machine ended: its hypervisor is gone; last lines of its log:\n' +
          'Kernel panic\ntoken [masked]\nlast',
      },
    ])
    // One that is removed did not crash.
    await driver.provision(task)
    await driver.deprovision(task)
    stop.abort()
    await watching
    assert.equal(crashes.length, 1)
  })

  it('are given up when their hypervisor does not answer any more', async () => {
    const room = machineRoom()
    const driver = room.driver({ quickMs: 200 })
    const task = machineTask(room)
    await driver.provision(task)
    const [pid = 0] = room.started()
    room.control({ 'vm.info': { do: 'hang' }, 'vmm.ping': { do: 'hang' }, deaf: true })
    const crashes: Crash[] = []
    const stop = new AbortController()
    const watching = driver.watch?.((crash) => crashes.push(crash), stop.signal)
    await eventually('the crash is told', () => crashes.length > 0)
    assert.equal(
      crashes[0]?.reason,
      'machine ended: the hypervisor does not answer vm.info within 200 ms; ' +
        'last lines of its log:\nbooted',
    )
    assert.equal(runs(pid), false, 'its memory is free')
    stop.abort()
    await watching
    await driver.deprovision(task)
  })

  it('are switched off where they do not switch themselves off', async () => {
    const room = machineRoom()
    room.control({ acpi: false })
    const driver = room.driver({ graceMs: 200 })
    const task = machineTask(room)
    await driver.provision(task)
    await driver.deprovision(task)
    const last = room
      .requests()
      .filter((line) => line.startsWith('PUT'))
      .slice(-4)
    assert.deepEqual(last, [
      'PUT vm.power-button',
      'PUT vm.shutdown',
      'PUT vm.delete',
      'PUT vmm.shutdown',
    ])
    assert.equal(runs(room.started()[0] ?? 0), false)
  })

  const FAILURES = [
    [
      'its program ends at once',
      { start: 'die' },
      /the hypervisor ended at once; it says: Error: something is wrong with this host$/,
    ],
    [
      'vm.create is refused',
      { 'vm.create': { status: 400, body: '["bad disk"]' } },
      /refuses vm.create \(400\): \["bad disk"\]$/,
    ],
    [
      'vm.boot fails',
      { 'vm.boot': { status: 500, body: '["no memory"]' } },
      /refuses vm.boot \(500\): \["no memory"\]$/,
    ],
    [
      'it dies at vm.boot',
      { 'vm.boot': { do: 'die' } },
      /closed the connection during vm.boot|nobody listens/,
    ],
    [
      'an answer is cut short',
      { 'vm.info': { do: 'cut' } },
      /closed the connection during vm.info/,
    ],
    [
      'an answer is no JSON',
      { 'vm.info': { body: 'Running' } },
      /answer to vm.info is odd: it is no JSON object$/,
    ],
    [
      'it is in no state that exists',
      { 'vm.info': { body: '{"state":"Fine"}' } },
      /answer to vm.info is odd: its state is "Fine"$/,
    ],
    [
      'it switches itself off at once',
      { 'vm.info': { body: '{"state":"Shutdown"}' } },
      /it is Shutdown at once$/,
    ],
    [
      'its program is too old',
      { version: '50.0' },
      /^cloud-hypervisor 50.0 cannot be used: .*CVE-2026-27211.*50\.1 or later$/,
    ],
  ] as const

  for (const [name, control, message] of FAILURES) {
    it(`leave nothing running when ${name}`, async () => {
      const room = machineRoom()
      room.control(control)
      const driver = room.driver({ quickMs: 2000 })
      const task = machineTask(room, { mounts: [{ name: 'files', mountpoint: '/files' }] })
      const error = await refusal(driver, task)
      assert.match(error.message, message)
      assert.equal(error.kind, 'failed')
      assert.deepEqual(error.data, RESULT)
      for (const pid of room.started()) assert.equal(runs(pid), false)
      assert.deepEqual(readdirSync(room.options.runFolder), [])
      assert.match(room.commands().at(-1) ?? '', /^ip link del dev /)
      // And start when the trouble is over.
      room.control({})
      assert.deepEqual(await driver.provision(task), RESULT)
      await driver.deprovision(task)
      assert.deepEqual(readdirSync(room.options.folder), [])
    })
  }

  it('can be stopped while they start', async () => {
    const room = machineRoom()
    room.control({ 'vm.boot': { do: 'hang' } })
    const driver = room.driver()
    const stop = new AbortController()
    const task = machineTask(room, {}, { signal: stop.signal })
    const refused = refusal(driver, task)
    await eventually('it boots', () => room.requests().includes('PUT vm.boot'))
    stop.abort()
    assert.equal((await refused).kind, 'transient')
    for (const pid of room.started()) assert.equal(runs(pid), false)
  })

  it('give their GPUs back, and get none that is bound to a driver of the host', async () => {
    const room = machineRoom()
    const taken: string[] = []
    const gpus = {
      claim: async (id: string, _contract: bigint, owner: string) => {
        if (id.includes('taken')) throw new Error(`GPU '${id}' is in use`)
        taken.push(`${owner} ${id}`)
      },
      release: (owner: string) => {
        taken.splice(0, taken.length, ...taken.filter((line) => !line.startsWith(`${owner} `)))
      },
      deviceRequests: () => undefined,
    }
    const driver = room.driver({ gpus })
    const gpu = ['0000:ff:1f.7/10de/2330']
    const rented = { rentContract: async () => 7n }
    assert.equal(
      (await refusal(driver, machineTask(room, { gpu }))).message,
      'usage of GPU is not allowed unless node is rented',
    )
    assert.match(
      (await refusal(driver, machineTask(room, { gpu: ['taken'] }, rented))).message,
      /in use/,
    )
    assert.equal(
      (await refusal(driver, machineTask(room, { gpu: ['../../etc/10de/1'] }, rented))).message,
      "unknown GPU id '../../etc/10de/1'",
    )
    assert.deepEqual(taken, [])
    const task = machineTask(room, { gpu }, rented)
    await driver.provision(task)
    assert.deepEqual(taken, [`${ID} ${gpu[0]}`])
    assert.deepEqual(room.created().devices, [{ path: '/sys/bus/pci/devices/0000:ff:1f.7' }])
    await driver.deprovision(task)
    assert.deepEqual(taken, [])
  })

  it('have a public address on the public bridge, and their way out there', async () => {
    const room = machineRoom()
    const task = machineTask(room, { publicIp: 'address' })
    assert.equal(
      (await refusal(room.driver(), task)).message,
      'public ipv4 is requested, but not supported on this node: no public bridge is configured',
    )
    const driver = room.driver({ publicBridge: 'br-pub' })
    await driver.provision(task)
    const cards = room.created().net as { tap: string }[]
    assert.equal(cards.length, 2)
    const put = `ip link set dev ${cards[1]?.tap} master br-pub`
    assert.ok(room.commands().includes(put))
    const seed = readFileSync(join(room.options.folder, ID, 'seed.img'), 'latin1')
    assert.match(
      seed,
      /"addresses":\["198\.51\.100\.7\/24"\],"routes":\[\{"to":"0\.0\.0\.0\/0","via":"198\.51\.100\.1"\}\]/,
    )
    assert.match(
      seed,
      /"routes":\[\{"to":"100\.64\.0\.0\/16","via":"10\.1\.2\.1"\},\{"to":"10\.1\.0\.0\/16"/,
    )
    await driver.deprovision(task)
  })

  it('are swept when nobody wants them, by their own driver only', async () => {
    const room = machineRoom()
    const driver = room.driver()
    const task = machineTask(room)
    await driver.provision(task)
    const [pid = 0] = room.started()
    await driver.sweep?.(new Set([ID]), task.signal)
    assert.ok(runs(pid))
    await room.driver().sweep?.(new Set(), task.signal)
    assert.equal(runs(pid), false)
    assert.deepEqual(readdirSync(room.options.folder), [])
  })

  it('do not fill the disk with what they write', async () => {
    const room = machineRoom()
    const lines = Array.from({ length: 20_000 }, (_, index) => `line ${index}\n`).join('')
    room.control({ serial: lines })
    const driver = room.driver({ maxLogBytes: 100_000 })
    const task = machineTask(room)
    await driver.provision(task)
    const stop = new AbortController()
    const watching = driver.watch?.(() => {}, stop.signal)
    const log = join(room.options.folder, ID, 'serial.log')
    await eventually('the log is cut', () => statSync(log).blocks * 512 < 100_000)
    assert.equal(await driver.logs?.(task, 2), 'line 19998\nline 19999')
    assert.equal((await driver.logs?.(task, 1e9))?.split('\n').length, 1000)
    stop.abort()
    await watching
    await driver.deprovision(task)
  })
})

describe('what virtual machines write', () => {
  cleanAfterEach()

  it('is followed to its end, and again after a new start', async () => {
    const room = machineRoom()
    room.control({ serial: 'one\r\ntwo\r\nthree\r\nfo' })
    const driver = room.driver()
    const task = machineTask(room)
    const logs = hypervisorLogs(room.options)
    const signal = AbortSignal.timeout(40_000)
    const follow = (options: { readonly tail: number; readonly since?: string }) => {
      const lines: string[] = []
      const read = async () => {
        for await (const { text } of logs.follow(ID, { ...options, signal })) lines.push(text)
        return lines
      }
      return { lines, whole: read() }
    }
    assert.deepEqual(await follow({ tail: 10 }).whole, [], 'there is no machine')
    await driver.provision(task)
    const log = join(room.options.folder, ID, 'serial.log')
    const before = new Date().toISOString()
    const all = follow({ tail: 2 })
    await eventually('the last lines came', () => all.lines.length === 2)
    const newer = follow({ tail: 2, since: before })
    appendFileSync(log, 'ur\r\nfive\r\n')
    await eventually('new lines came', () => all.lines.at(-1) === 'five')
    // Cut by the daemon, gone on with at the old place by the hypervisor.
    const { size } = statSync(log)
    truncateSync(log, 0)
    truncateSync(log, size)
    appendFileSync(log, 'six\r\n')
    await eventually('lines come after a cut', () => all.lines.at(-1) === 'six')
    end(room.started()[0] ?? 0)
    assert.deepEqual(await all.whole, ['two', 'three', 'four', 'five', 'six'])
    assert.equal((await newer.whole).at(-1), 'six')
    assert.equal(newer.lines.includes('three'), false)
    room.control({ serial: 'again\n' })
    await driver.provision(task)
    const second = follow({ tail: 2, since: before })
    end(room.started()[1] ?? 0)
    assert.deepEqual(await second.whole, ['again'])
    await driver.deprovision(task)
  })
})

describe('the probe for virtual machines', () => {
  cleanAfterEach()

  const CASES = [
    [
      'the program',
      { hypervisor: ['/nonexistent/ch'] },
      /^"\/nonexistent\/ch" is not installed; install cloud-hypervisor$/,
    ],
    [
      'KVM',
      { kvmPath: '/nonexistent/kvm' },
      /^virtual machines need \/nonexistent\/kvm: it is not there$/,
    ],
    ['firmware', { payload: undefined }, /^no firmware and no kernel is configured$/],
    [
      'a kernel that is there',
      { payload: { kernel: '/nonexistent/k', cmdline: 'x' } },
      /^the kernel "\/nonexistent\/k" cannot be read: it is not there$/,
    ],
    [
      'a short folder for sockets',
      { runFolder: `/${'x'.repeat(84)}` },
      /^the folder for sockets is longer than 84 bytes/,
    ],
  ] as const
  it('tries a network card of a name that nobody else tries, and removes it', async () => {
    const room = machineRoom()
    const { signal } = new AbortController()
    await Promise.all([room.driver().probe(signal), room.driver().probe(signal)])
    const tried = (what: string) =>
      room.commands().flatMap((line) => new RegExp(`${what} dev (cvmd-\\w+)`).exec(line)?.[1] ?? [])
    assert.equal(new Set(tried('tuntap add')).size, 2)
    assert.deepEqual(tried('link del').sort(), tried('tuntap add').sort())
  })

  it('leaves no network card when it is called off', async () => {
    const room = machineRoom()
    const calledOff = new AbortController()
    const prefix = [join(room.folder, 'slow')]
    const add = `case "$*" in *tuntap*) echo made >>"${room.folder}/made"; sleep 5 ;; esac`
    const del = `case "$*" in *del*) echo gone >>"${room.folder}/made" ;; *-version*) exec "$@" ;; esac`
    writeFileSync(prefix[0] ?? '', `#!/bin/sh\n${add}\n${del}\n`, { mode: 0o755 })
    const probing = room.driver({ prefix }).probe(calledOff.signal)
    const made = () => existsSync(join(room.folder, 'made'))
    await eventually('it is made', made)
    calledOff.abort(new Error('the drivers are stopped'))
    assert.deepEqual(await probing, { able: false, reason: 'the drivers are stopped' })
    assert.equal(readFileSync(join(room.folder, 'made'), 'utf8'), 'made\ngone\n')
  })

  for (const [name, more, reason] of CASES) {
    it(`asks for ${name}`, async () => {
      const probe = await machineRoom()
        .driver({ prefix: [], ...more })
        .probe(new AbortController().signal)
      assert.ok(!probe.able)
      assert.match(probe.reason, reason)
    })
  }

  it('warns of a missing virtiofsd, and refuses a program that is too old', async () => {
    const room = machineRoom()
    const { signal } = new AbortController()
    const warned = await room.driver({ virtiofsd: ['/bin/false'] }).probe(signal)
    assert.ok(warned.able)
    assert.match(warned.warning ?? '', /^machines with volumes will fail: "\/bin\/false" ended/)
    room.control({ version: '49.0' })
    const old = await room.driver().probe(signal)
    assert.ok(!old.able)
    assert.match(old.reason, /^cloud-hypervisor 49.0 cannot be used/)
  })

  it('is right about a program that is missing at the start of a machine', async () => {
    const driver = machineRoom().driver({ hypervisor: ['/nonexistent/ch'] })
    const error = await refusal(driver, machineTask(machineRoom()))
    assert.equal(error.message, 'Cannot start "ch": it is not installed')
  })
})

describe('images of virtual machines', () => {
  cleanAfterEach()

  it('are what this node offers, and nothing else of it', async () => {
    const room = machineRoom()
    const driver = room.driver()
    mkdirSync(join(room.imageDir, 'sub'))
    writeFileSync(join(room.folder, 'secret'), Buffer.alloc(1024, 's'))
    symlinkSync(join(room.folder, 'secret'), join(room.imageDir, 'link.raw'))
    writeFileSync(join(room.imageDir, 'empty.raw'), '')
    writeFileSync(
      join(room.imageDir, 'cow.img'),
      Buffer.concat([Buffer.from('QFI\xfb', 'latin1'), Buffer.alloc(2048)]),
    )
    writeFileSync(join(room.imageDir, 'large.raw'), Buffer.alloc(16))
    const offered =
      'virtual machines start from "https://host/disk.img" or "file:///disk.raw" with a raw disk'
    const refused = [
      [
        'docker://debian',
        `cannot use flist "docker://debian": this node runs no containers as machines; ${offered}`,
      ],
      [
        'https://user:pw@hub.example/x.flist?t=1',
        `cannot use flist "https://hub.example/x.flist": flists are not mounted here; ${offered}`,
      ],
      [
        'http://images.example/a.img',
        `cannot use flist "http://images.example/a.img": unknown image source; ${offered}`,
      ],
      [
        'https://images.example/a.qcow2',
        `cannot use flist "https://images.example/a.qcow2": its path ends with neither .img nor .raw; ${offered}`,
      ],
      ['nonsense', `cannot use flist "nonsense": it is no URL; ${offered}`],
      [
        'file:///../secret',
        'Cannot use image "file:///secret": this node keeps no image of this name',
      ],
      [
        'file:///%2e%2e%2fsecret',
        'Cannot use image "file:///../secret": this node keeps no image of this name',
      ],
      [
        'file:///link.raw',
        'Cannot use image "file:///link.raw": this node keeps no image of this name',
      ],
      ['file:///sub', 'Cannot use image "file:///sub": this node keeps no image of this name'],
      [
        'file:///empty.raw',
        'Cannot use image "file:///empty.raw": it has 0 bytes, which is no disk',
      ],
      [
        'file:///cow.img',
        'Cannot use image "file:///cow.img": it is a qcow2 image, and only raw disks are offered',
      ],
      [
        'https://127.0.0.1/a.img',
        'Cannot download image "https://127.0.0.1/a.img": "127.0.0.1" is not a public address',
      ],
      [
        'https://[::ffff:10.0.0.1]/a.img',
        'Cannot download image "https://[::ffff:a00:1]/a.img": "::ffff:a00:1" is not a public address',
      ],
    ] as const
    for (const [flist, message] of refused) {
      const error = await refusal(driver, machineTask(room, { flist }))
      assert.equal(error.message, message)
      assert.equal(error.kind, 'failed')
    }
    assert.deepEqual(room.started(), [])
  })
})
