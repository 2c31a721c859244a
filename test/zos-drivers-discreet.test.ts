/** What tenants are told names nothing of how the host's disk is laid out; the operator is told all. */
import assert from 'node:assert/strict'
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it, test } from 'node:test'
import { DriverBoard } from '../plugins/zos/drivers/board.ts'
import { discreet, withoutFolders } from '../plugins/zos/drivers/discreet.ts'
import { type Driver, DriverError } from '../plugins/zos/drivers/driver.ts'
import { createGatewayDrivers } from '../plugins/zos/drivers/gateway/index.ts'
import { createNetworkHostDriver } from '../plugins/zos/drivers/network-host/driver.ts'
import { createStorageDrivers } from '../plugins/zos/drivers/storage/index.ts'
import { afterTest, cleanAfterEach } from './helpers/after-test.ts'
import { freshFolder } from './helpers/daemon.ts'
import { machineRoom, machineTask } from './helpers/zos-hypervisor.ts'
import { networkTask } from './helpers/zos-network-host.ts'
import { taskOf, workloadOf } from './helpers/zos-storage-task.ts'

test('paths shrink to their last part', () => {
  const cases: [string, string, string[]?][] = [
    ["ENOENT: no such file, open '/srv/a/b'", "ENOENT: no such file, open 'b'"],
    ['connect ENOENT /run/docker.sock', 'connect ENOENT docker.sock'],
    ['kept in "/srv/zos/": no', 'kept in "zos": no'],
    [
      'see https://host/path and docker://a/b, and/or 1/2',
      'see https://host/path and docker://a/b, and/or 1/2',
    ],
    ['mount /srv/zos/vdisks/1-2-a at /disk', 'mount 1-2-a at /disk', ['/srv/zos', '/srv']],
    ['/srv/zos2 /srv/zos-x /a/srv/zos', '/srv/zos2 /srv/zos-x /a/srv/zos', ['/srv/zos']],
    ['(/srv/z+s/a)', '(a)', ['/srv/z+s']],
    ['/srv/a', '/srv/a', []],
    ['/srv/a', '/srv/a', ['', '/', 'srv']],
  ]
  for (const [text, shown, places] of cases) assert.equal(withoutFolders(text, places), shown)
})

/** A driver that fails with what is thrown. */
function failing(thrown: unknown): Driver<'zmount'> {
  const fail = () => Promise.reject(thrown)
  return {
    type: 'zmount',
    name: 'file',
    probe: async () => ({ able: true }),
    provision: fail,
    deprovision: fail,
    watch: async (crashed) => crashed({ id: '1-2-a', reason: 'it read /srv/zos/x' }),
  }
}

test('the operator is told what a tenant is not, once', async () => {
  const told: string[] = []
  const warn = (text: string) => void told.push(text)
  const task = taskOf(workloadOf('zmount', 'a', { size: 1n }))
  const error = new DriverError('transient', 'Cannot open "/srv/zos/x"', { data: { a: 1 } })
  const driver = discreet(failing(error), { places: ['/srv/zos', undefined], warn })
  for (let attempt = 0; attempt < 3; attempt++) {
    await assert.rejects(driver.provision(task), {
      name: 'DriverError',
      kind: 'transient',
      message: 'Cannot open "x"',
      data: { a: 1 },
      cause: error,
    })
  }
  assert.deepEqual(told, [`workload ${task.id}: Cannot open "/srv/zos/x"`])
  const reasons: string[] = []
  await driver.watch?.(({ reason }) => reasons.push(reason), new AbortController().signal)
  assert.deepEqual(reasons, ['it read x'])
  assert.equal(driver.update, undefined)

  // What names no place of the host is left as it is.
  const other = new Error('mount /disk is taken')
  const same = discreet(failing(other), { places: ['/srv/zos'], warn })
  await assert.rejects(same.deprovision(task), (thrown) => thrown === other)
  assert.equal(told.length, 2)
})

test('what a host lacks is told to tenants without its folders', async () => {
  const reason =
    'Cannot keep disks in "/srv/zos": EACCES: permission denied, open \'/srv/zos/trial\''
  const news: string[] = []
  const board = new DriverBoard({
    candidates: [{ ...failing(undefined), probe: async () => ({ able: false, reason }) }],
    told: ({ probe }) => news.push(probe.able ? '' : probe.reason),
  })
  await board.start()
  await board.stop()
  assert.equal(
    board.lacks('zmount'),
    'Cannot keep disks in "zos": EACCES: permission denied, open \'trial\'',
  )
  assert.deepEqual(news, [reason])
})

describe('drivers', () => {
  cleanAfterEach()

  /** That it fails, and what the operator and the tenant are told. */
  async function refuses(work: Promise<unknown>, folder: string, told: readonly string[]) {
    let message = ''
    await assert.rejects(work, (error: Error) => {
      message = error.message
      return true
    })
    assert.ok(!message.includes(folder), message)
    assert.ok(
      told.some((text) => text.includes(folder)),
      `${message} ${told.join()}`,
    )
  }

  const warned = () => {
    const told: string[] = []
    return { told, warn: (text: string) => void told.push(text) }
  }

  it('of disks and volumes', async () => {
    const folder = freshFolder()
    afterTest(() => rmSync(folder, { recursive: true, force: true }))
    const { told, warn } = warned()
    const drivers = createStorageDrivers({ dataDir: folder, useFolders: false, warn })
    const disk = taskOf(workloadOf('zmount', 'disk', { size: 1024n }))
    const volume = taskOf(workloadOf('volume', 'files', { size: 1024n }))
    for (const name of ['vdisks', 'volumes']) mkdirSync(join(folder, name))
    symlinkSync('/etc/passwd', join(folder, 'vdisks', disk.id))
    symlinkSync('/etc', join(folder, 'volumes', volume.id))
    await refuses(drivers.zmount.provision(disk), folder, told)
    told.length = 0
    await refuses(drivers.volume.provision(volume), folder, told)
  })

  it('of virtual machines', async () => {
    const room = machineRoom()
    const { told, warn } = warned()
    // Its own words name the disk.
    const disk = join(room.folder, 'machines/x/root.img')
    room.control({ 'vm.create': { status: 500, body: JSON.stringify([`cannot open ${disk}`]) } })
    await refuses(room.driver({ warn }).provision(machineTask(room)), room.folder, told)
  })

  it('of networks of the host, and of gateways', async () => {
    const folder = freshFolder()
    afterTest(() => rmSync(folder, { recursive: true, force: true }))
    writeFileSync(join(folder, 'file'), '')
    const below = join(folder, 'file', 'folder')
    const { told, warn } = warned()
    const network = createNetworkHostDriver('network-light', { folder: below, warn })
    await refuses(network.provision(networkTask('network-light', '10.9.2.0/24')), below, told)
    told.length = 0
    const { fqdn } = createGatewayDrivers({
      backEnd: { traefik: { folder: below } },
      domain: () => undefined,
      warn,
    })
    const web = workloadOf('gateway-fqdn-proxy', 'web', {
      fqdn: 'a.example',
      tlsPassthrough: false,
      backends: ['http://10.9.2.3:80'],
      network: undefined,
    })
    await refuses(fqdn.provision(taskOf(web)), below, told)
  })
})
