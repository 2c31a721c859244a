/** SIGKILL to the daemon after each thing that the engine did for a deployment (row E4). */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { within } from '../src/deadline.ts'
import { runtime } from '../src/runtime.ts'
import type { DaemonProcess } from './helpers/daemon.ts'
import { useEngine } from './helpers/engine.ts'
import { ask, Grid, isErased, reaches, TWIN } from './helpers/zos-grid.ts'
import { startNode, UP, workloads } from './helpers/zos-machine.ts'
import { engineProxy, isWrite } from './supervisor/engine-proxy.ts'

const engineOf = useEngine()

/** Elsewhere than on Node a part of them is enough: the steps are the same. */
const STRIDE = runtime === 'node' ? 1 : 3

test('a daemon killed at any step of a deployment brings it to its end, and to its beginning', async (t) => {
  const engine = await engineOf(t)
  if (!engine) return
  const at = join(engine.folder, 'node')
  mkdirSync(at)
  const proxy = await engineProxy(t, engine.socketPath, join(engine.folder, 'proxy.sock'))
  const grid = new Grid(join(at, 'registry.json'))
  const { containers, networks } = engine.client
  await containers.create('stranger', { Image: 'cvmd-test:latest' })
  let node: DaemonProcess = await startNode(proxy.socketPath, at)
  t.after(() => node.stop())
  const nets = (await networks.list()).length

  const deploy = async (contract: number) => {
    const text = grid.signed(contract, workloads)
    const accepted = await ask(node.socket, 'zos.deployment.deploy', text)
    assert.equal(accepted.status, 202, accepted.body)
  }
  const isUp = async (contract: number) => {
    await reaches(node.socket, contract, UP)
    const mine = (await containers.list()).filter(({ Names }) => !Names?.includes('/stranger'))
    assert.deepEqual(
      mine.map(({ State }) => State),
      ['running'],
    )
    const [word = '', ...others] = readFileSync(
      join(at, `state/zos/data/volumes/${TWIN}-${contract}-shared/word`),
      'utf8',
    )
      .trimEnd()
      .split('\n')
    assert.equal(word, 'hello-canary')
    return others.length
  }
  const isGone = async (contract: number) => {
    await isErased(node.socket, contract)
    const left = (await containers.list()).flatMap(({ Names }) => Names ?? [])
    assert.deepEqual(left, ['/stranger'])
    assert.equal((await networks.list()).length, nets)
  }
  const killedAt = async (step: number, begin: () => unknown) => {
    let left = step
    const held = proxy.hold((call) => isWrite(call) && left-- === 0)
    await begin()
    const last = await within(30_000, held, `be at step ${step}`)
    node.signal('SIGKILL')
    await within(30_000, node.exited(), 'end')
    proxy.release()
    node = await startNode(proxy.socketPath, at)
    return last
  }

  let contract = 100
  const before = proxy.writes().length
  await deploy(contract)
  await isUp(contract)
  const up = proxy.writes().length - before
  grid.setState(contract, 'deleted')
  await isGone(contract)
  const down = proxy.writes().length - before - up
  assert.ok(up >= 3 && down >= 2, `${up} steps up, ${down} down`)

  for (let step = 0; step < Math.max(up, down); step += STRIDE) {
    contract++
    const at = [`up ${step}`]
    try {
      if (step < up) at.push(await killedAt(step, () => deploy(contract)))
      else await deploy(contract)
      await isUp(contract)
      at.push(`down ${step}`)
      const end = () => grid.setState(contract, 'deleted')
      if (step < down) at.push(await killedAt(step, end))
      else end()
      await isGone(contract)
    } catch (error) {
      throw new Error(`killed at ${at.join(', ')}: ${(error as Error).message}`, { cause: error })
    }
  }
})
