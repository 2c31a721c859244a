import { ZosError } from '../zos-error.ts'
import type { Command, CommandParts, CommandTable } from './parts.ts'
import { readName } from './payload.ts'

/** `zos.statistics`, `zos.storage`, `zos.system`, `zos.perf`, `zos.location` (spec §8, §9). */
export function nodeCommands(parts: CommandParts): CommandTable {
  const { deployments, facts, features, modules } = parts
  return {
    'zos.statistics.get': anybody(async () => {
      const [{ total, system }, connections] = await Promise.all([
        facts.capacity(),
        facts.openConnections(),
      ])
      const used = deployments.used()
      const users = deployments.users()
      return {
        total,
        used: {
          cru: used.cru + system.cru,
          sru: used.sru + system.sru,
          hru: used.hru + system.hru,
          mru: used.mru + system.mru,
          ipv4u: used.ipv4u + system.ipv4u,
        },
        system,
        users: {
          deployments: users.deployments,
          workloads: users.workloads,
          last_deployment_timestamp: users.lastDeploymentTimestamp,
        },
        open_connections: connections,
      }
    }),
    'zos.storage.pools': anybody(async () => orNull(await facts.pools())),
    'zos.system.version': anybody(() => facts.version()),
    'zos.system.dmi': anybody(() => facts.dmi()),
    'zos.system.hypervisor': anybody(() => facts.hypervisor()),
    'zos.system.node_features_get': anybody(features),
    'zos.system.diagnostics': anybody(() => diagnostics(modules())),
    'zos.gpu.list': anybody(() => gpuList(parts)),
    'zos.perf.get': anybody(({ payload }) => {
      const name = readName(payload)
      const found = facts.perf().find((result) => result.name === name)
      if (!found) throw new ZosError('failed', 'result not found')
      return found
    }),
    'zos.perf.get_all': anybody(() => orNull(facts.perf())),
    'zos.location.get': anybody(() => facts.location()),
  }
}

function anybody(answer: Command['answer']): Command {
  return { caller: 'any', answer }
}

/** The reference has no empty lists where it appends to nothing. */
function orNull<T>(list: readonly T[]): readonly T[] | null {
  return list.length === 0 ? null : list
}

function diagnostics(all: ReturnType<CommandParts['modules']>) {
  const healthy = all.every(({ problem }) => problem === undefined)
  const entries = all.map(({ name, problem }) => [
    name,
    { status: { objects: [], workers: [] }, ...(problem !== undefined && { error: problem }) },
  ])
  return { system_status_ok: healthy, modules: Object.fromEntries(entries), healthy }
}

const MIB = 1024 * 1024

/** §9.6: memory in MiB, and the contract of the running machine that has it. */
async function gpuList({ gpus, gpuClasses, deployments }: CommandParts) {
  const holders = new Map<string, bigint>()
  for (const { contractId, workload } of deployments.running()) {
    if (workload.type !== 'zmachine' && workload.type !== 'zmachine-light') continue
    for (const id of workload.data.gpu) holders.set(id, contractId)
  }
  const found = await gpus.list(gpuClasses)
  return orNull(
    found.map(({ id, vendor, device, memory }) => ({
      id,
      vendor,
      device,
      vram: Math.floor(memory / MIB),
      contract: holders.get(id) ?? 0n,
    })),
  )
}
