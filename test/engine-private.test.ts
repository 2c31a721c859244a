import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { lacks } from './helpers/counterpart.ts'
import { lacking, startEngine, TEST_IMAGE } from './helpers/engine.ts'

/** Processes of the machine whose command line names this folder. */
function processesOf(folder: string): string[] {
  return readdirSync('/proc').filter((name) => {
    if (!/^\d+$/.test(name)) return false
    try {
      return readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(folder)
    } catch {
      return false
    }
  })
}

/** The control groups of the engine that has this container, which are its own. */
function groupsOf(container: string): string[] {
  const folders = readdirSync('/sys/fs/cgroup').map((name) => join('/sys/fs/cgroup', name))
  return ['/sys/fs/cgroup', ...folders].flatMap((folder) => {
    if (!statSync(folder).isDirectory()) return []
    const names = readdirSync(folder).filter((name) => name.startsWith('cvmd-test-'))
    const paths = names.map((name) => join(folder, name))
    return paths.filter((path) => existsSync(join(path, container)))
  })
}

const addresses = () =>
  Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map(({ address }) => address))

test('private engines do not meet, and leave nothing behind', async (t) => {
  if (lacks(t, 'engine', lacking() === undefined)) return
  const engines = await Promise.all([startEngine(), startEngine()])
  const groups: string[] = []
  try {
    for (const [index, { client, folder }] of engines.entries()) {
      writeFileSync(join(folder, 'shared'), `number ${index}\n`)
      // The same bridge, subnet and port on both.
      await client.networks.create({
        Name: 'one',
        IPAM: { Config: [{ Subnet: '10.114.104.0/25', Gateway: '10.114.104.1' }] },
        Options: { 'com.docker.network.bridge.name': 'supervisor0' },
      })
      const { Id } = await client.containers.create('one', {
        Image: TEST_IMAGE,
        Cmd: ['sh', '-c', 'cat /shared; sleep 1000'],
        ExposedPorts: { '80/tcp': {} },
        HostConfig: {
          NetworkMode: 'one',
          PortBindings: { '80/tcp': [{ HostPort: '80' }] },
          Binds: [`${folder}/shared:/shared:ro`],
        },
      })
      await client.containers.start('one')
      groups.push(...groupsOf(Id))
      for await (const { text } of client.containers.logs('one', { follow: true })) {
        assert.equal(text, `number ${index}`)
        break
      }
      assert.ok(processesOf(folder).length > 0)
    }
    for (const { hostAddress } of engines) assert.ok(addresses().includes(hostAddress))
  } finally {
    await Promise.all(engines.map((engine) => engine.stop()))
  }
  for (const { folder, hostAddress } of engines) {
    assert.ok(!existsSync(folder))
    assert.deepEqual(processesOf(folder), [])
    assert.ok(!addresses().includes(hostAddress))
  }
  assert.ok(groups.length > 0)
  for (const group of groups) assert.ok(!existsSync(group), group)
  assert.ok(!addresses().includes('10.114.104.1'))
})
