import { isEngineError } from '../../../src/engine/error.ts'
import type { NetworkBody } from '../../../src/engine/networks.ts'
import type { VolumeBody } from '../../../src/engine/volumes.ts'
import { networkSpecs, volumeSpecs } from '../compose/objects.ts'
import { SUPERVISOR_NETWORK, supervisorNetworkBody } from '../compose/supervisor-network.ts'
import { knownNetwork, knownVolume } from '../engine-state/objects.ts'
import type { TargetApp } from '../target/model.ts'
import { type Hands, StaleStep, unlessGone, unlessThere } from './hands.ts'

export async function createNetwork(name: string, appId: number, hands: Hands): Promise<void> {
  const { engine, state, note, signal } = hands
  const spec = specOf(networkSpecs, name, appId, hands)
  try {
    const id = await engine.networks.create(spec.create as unknown as NetworkBody, { signal })
    state.addNetwork({ id, name, appId, hash: spec.hash })
  } catch (error) {
    if (!isEngineError(error, 'ENGINE_CONFLICT')) throw error
    const found = await engine.networks.list({ names: [name], signal })
    const ours = found.filter(({ Name }) => Name === name).map(knownNetwork)
    const known = ours.find((one) => one?.hash === spec.hash)
    if (known === undefined) throw error
    return state.addNetwork(known)
  }
  note(`network ${name} created`)
}

export async function createVolume(name: string, appId: number, hands: Hands): Promise<void> {
  const { engine, state, note, signal } = hands
  const spec = specOf(volumeSpecs, name, appId, hands)
  const made = await engine.volumes.create(spec.create as unknown as VolumeBody, { signal })
  // Docker gives the one that is there, whoever made it.
  const known = knownVolume({ ...made, Name: made.Name || name })
  if (known === undefined) throw new StaleStep(`volume ${name} is not ours`)
  state.addVolume(known)
  note(`volume ${name} created`)
}

export async function createSupervisorNetwork({
  engine,
  state,
  subnet,
  signal,
}: Hands): Promise<void> {
  const body = supervisorNetworkBody(subnet) as unknown as NetworkBody
  await unlessThere(engine.networks.create(body, { signal }))
  await state.refreshSupervisorNetwork(signal)
}

export async function removeSupervisorNetwork({ engine, state, signal }: Hands): Promise<void> {
  await unlessGone(engine.networks.remove(SUPERVISOR_NETWORK, { signal }))
  await state.refreshSupervisorNetwork(signal)
}

function specOf<Spec extends { readonly name: string }>(
  specs: (app: TargetApp) => Spec[],
  name: string,
  appId: number,
  { appOf }: Hands,
): Spec {
  const app = appOf(appId)
  const spec = app && specs(app).find((one) => one.name === name)
  if (spec) return spec
  throw new StaleStep(`${name} is not wanted any more`)
}
