import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createGatewayDrivers } from '../plugins/zos/drivers/gateway/index.ts'
import { claimGpus } from '../plugins/zos/drivers/gpu-claims.ts'
import { driverError, machineData, tasksOf, workloadOf } from './helpers/zos-container.ts'
import { resultIn, taskOf } from './helpers/zos-storage-task.ts'

const away = () => Promise.reject(new Error('wss://canary@chain.example does not answer'))
const waits = driverError('transient', /^the registry cannot be asked now$/)

test('a gateway waits for a registry that is away, and stays when it was up', async (t) => {
  const backEnd = { proxy: { http: [{ host: '127.0.0.1', port: 0 }], tls: [] } }
  const { name, backEnd: routes } = createGatewayDrivers({ backEnd, domain: () => 'gw.example' })
  t.after(() => name.stop?.())
  const site = workloadOf('gateway-name-proxy', 'site', {
    name: 'site',
    tlsPassthrough: false,
    backends: ['http://10.1.2.3'],
    network: undefined,
  })
  const task = taskOf(site, { ownsName: away, resultOf: () => resultIn('init') })
  await assert.rejects(name.provision(task), waits)
  assert.deepEqual(await routes.ids(), [])
  for (const state of ['ok', 'paused'] as const) {
    const before = { ...task, resultOf: () => resultIn(state) }
    assert.deepEqual(await name.provision(before), { fqdn: 'site.gw.example' })
  }
  assert.deepEqual(await routes.ids(), [task.id])
})

test('so does a machine with GPUs', async () => {
  const claimed: string[] = []
  const gpus = {
    claim: async (id: string) => void claimed.push(id),
    release: () => {},
    deviceRequests: () => undefined,
  }
  const vm = workloadOf('zmachine', 'vm', machineData('10.44.2.9', { gpu: ['a/b/c'] }))
  const machine = (state: 'init' | 'ok') => ({
    ...tasksOf({ workloads: [vm], results: { vm: { state } } }).of('zmachine', 'vm'),
    rentContract: away,
  })
  await assert.rejects(claimGpus(machine('init'), gpus), waits)
  assert.deepEqual(claimed, [])
  await claimGpus(machine('ok'), gpus)
  assert.deepEqual(claimed, ['a/b/c'])
})
