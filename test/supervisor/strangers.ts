import assert from 'node:assert/strict'
import { TEST_IMAGE, type TestEngine } from '../helpers/engine.ts'
import { APP } from './targets.ts'

/** Objects that look as much as possible as if they were the supervisor's, and are not. */
export interface Strangers {
  /** Everything is as it was planted, and there is nothing beside it and what is supervised. */
  untouched(): Promise<void>
}

const VOLUMES = [`${APP}_foreign`, '999_data', 'foreign']
const NETWORKS = ['foreign', `${APP}_foreign`, '999_default']

/** Plants containers, networks and volumes, one of each like those of the app. */
export async function plantStrangers({ client }: TestEngine): Promise<Strangers> {
  const { containers, networks, volumes } = client
  for (const Name of VOLUMES) await volumes.create({ Name })
  for (const Name of NETWORKS) await networks.create({ Name })
  const running = await containers.create('stranger', {
    Image: TEST_IMAGE,
    HostConfig: { NetworkMode: 'foreign', Binds: ['foreign:/data'] },
  })
  await containers.start(running.Id)
  await containers.create(`stranger_1_1_c1`, {
    Image: TEST_IMAGE,
    Labels: { 'io.balena.app-id': String(APP), 'io.balena.service-name': 'stranger' },
  })

  const look = async () => {
    const all = await containers.list()
    const foreign = all.filter(({ Labels }) => !('io.balena.supervised' in (Labels ?? {})))
    const boxes = await Promise.all(foreign.map(({ Id }) => containers.inspect(Id)))
    const nets = (await networks.list()).filter(({ Name }) => NETWORKS.includes(Name))
    const vols = (await volumes.list()).filter(({ Name }) => VOLUMES.includes(Name))
    return {
      containers: boxes
        .map(({ Id, Name, State }) => [Name, Id, State.Status, State.StartedAt])
        .sort(),
      networks: nets.map(({ Name, Id }) => [Name, Id]).sort(),
      volumes: vols.map(({ Name, CreatedAt }) => [Name, CreatedAt]).sort(),
    }
  }
  const before = await look()
  return {
    untouched: async () => assert.deepEqual(await look(), before),
  }
}
