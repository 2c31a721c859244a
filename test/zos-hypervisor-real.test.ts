import assert from 'node:assert/strict'
import { accessSync, constants, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { networkId } from '../plugins/zos/deployment/ids.ts'
import { machineApi } from '../plugins/zos/drivers/cloud-hypervisor/api.ts'
import {
  endLasting,
  startLasting,
} from '../plugins/zos/drivers/cloud-hypervisor/lasting-process.ts'
import { vmConfig } from '../plugins/zos/drivers/cloud-hypervisor/vm-config.ts'
import { bridgeName } from '../plugins/zos/drivers/names.ts'
import { createNetworkHostDriver } from '../plugins/zos/drivers/network-host/driver.ts'
import { afterTest, cleanAfterEach } from './helpers/after-test.ts'
import { installed, lacks } from './helpers/counterpart.ts'
import { eventually, machineRoom, machineTask } from './helpers/zos-hypervisor.ts'
import { hostNamespace, makesNetworks, networkTask } from './helpers/zos-network-host.ts'
import { TWIN } from './helpers/zos-storage-task.ts'

function hasKvm(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK)
    return true
  } catch {
    return false
  }
}

describe('virtual machines with real counterparts', () => {
  cleanAfterEach()

  it('are on the bridge of their network', async (t) => {
    if (lacks(t, 'netns', makesNetworks())) return
    const host = hostNamespace()
    const room = machineRoom()
    const { prefix } = host
    const networks = createNetworkHostDriver('network-light', {
      folder: join(room.folder, 'networks'),
      prefix,
    })
    const network = networkTask('network-light', '10.1.2.0/24', {}, { twin: TWIN })
    const bridge = bridgeName(networkId(TWIN, 'net'))
    const driver = room.driver({ prefix })
    const task = machineTask(room)
    await assert.rejects(Promise.resolve(driver.provision(task)), {
      kind: 'failed',
      message: `Cannot connect the machine: bridge "${bridge}" is missing; networks of machines are those of driver "host"`,
    })
    await networks.provision(network)
    await driver.provision(task)
    const cards: { ifname: string; master?: string }[] = JSON.parse(
      host.run('ip', '-j', '-d', 'link', 'show', 'type', 'tun'),
    ).filter((row: object) => Object.keys(row).length > 0)
    const [asked] = room.created().net as { tap: string }[]
    assert.deepEqual(
      cards.map(({ ifname, master }) => [ifname, master]),
      [[asked?.tap, bridge]],
    )
    assert.deepEqual(
      (await driver.health?.(task))?.map((check) => check.ok),
      [true, true],
    )
    await driver.deprovision(task)
    await networks.deprovision(network)
    assert.deepEqual(host.links(), [])
  })

  it('are of a shape that cloud-hypervisor takes', async (t) => {
    if (lacks(t, 'cloud-hypervisor', installed('cloud-hypervisor') && hasKvm())) return
    const room = machineRoom()
    const socketPath = join(room.folder, 'api.sock')
    const process = await startLasting(
      ['cloud-hypervisor', '--api-socket', socketPath],
      join(room.folder, 'log'),
    )
    afterTest(() => endLasting(process, 1000))
    const api = machineApi({ socketPath })
    let version: string | undefined
    await eventually('it answers', () => {
      void api.ping().then(
        (told) => {
          version = told
        },
        () => {},
      )
      return version !== undefined
    })
    assert.equal(await api.state(), undefined)
    const disk = join(room.folder, 'disk')
    const firmware = join(room.folder, 'firmware')
    writeFileSync(disk, Buffer.alloc(1024 * 1024))
    await api.create(
      vmConfig({
        cpus: 1,
        memory: 256n * 1024n * 1024n,
        payload: { firmware },
        disks: [{ path: disk, readonly: false }],
        nics: [],
        shares: [],
        devices: [],
        serialLog: join(room.folder, 'serial'),
      }),
    )
    assert.equal(await api.state(), 'Created')
    // What is no firmware does not boot, and says so.
    await assert.rejects(api.boot(), { name: 'MachineApiError', code: 'REFUSED' })
    await api.delete()
    assert.equal(await api.state(), undefined)
    await api.shutdownVmm()
    await eventually('it ended', () => process.ended())
  })
})
