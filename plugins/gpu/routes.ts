import { Hono } from 'hono'
import { z } from 'zod'
import type { GpuState, Gpus } from '../../src/gpu/gpus.ts'
import { lazySchema } from '../../src/lazy-schema.ts'
import type { PluginEnv } from '../../src/plugin.ts'
import { route } from '../../src/route.ts'

const Answer = lazySchema(() =>
  z.array(
    z.object({
      id: z.string().describe('slot/vendor/device: 0000:28:00.0/1002/731f'),
      slot: z.string(),
      class: z.string().describe('PCI class, six hex digits'),
      vendor: z.string(),
      device: z.string(),
      memory_bytes: z.number().int().describe('0 when unknown'),
      memory_from: z
        .enum(['driver', 'window', 'unknown'])
        .describe('window: the largest memory window on PCI, which may be smaller'),
      driver: z.string().describe('Kernel driver, empty when none has it'),
      driver_version: z.string(),
      numa_node: z.number().int().describe('-1 when there is none'),
      temperature_celsius: z.number().nullable(),
      confidential_computing: z.enum(['on', 'off', 'devtools', 'unknown']),
      used_by: z
        .object({ plugin: z.string(), workload: z.string(), contract: z.string() })
        .nullable(),
    }),
  ),
)

/** What the operator sees of the machine's GPUs. */
export function gpuRoutes(gpus: Gpus, classes: 'all' | 'reference') {
  return new Hono<PluginEnv>().get(
    '/cvmd/gpu',
    route({
      summary: 'GPUs with their drivers, temperature, confidential computing and who has them',
      answers: { 200: { description: 'In the order of their slots', schema: Answer } },
    }),
    async (c) => {
      const listed = new Set((await gpus.list(classes)).map(({ id }) => id))
      const states = (await gpus.states()).filter(({ id }) => listed.has(id))
      return c.json(states.map((state) => shown(state, gpus)))
    },
  )
}

function shown(state: GpuState, gpus: Gpus): z.output<typeof Answer>[number] {
  const holder = gpus.holder(state.id)
  return {
    id: state.id,
    slot: state.slot,
    class: state.class,
    vendor: state.vendor,
    device: state.device,
    memory_bytes: state.memory,
    memory_from: state.memoryFrom,
    driver: state.driver,
    driver_version: state.driverVersion,
    numa_node: state.numaNode,
    temperature_celsius: state.temperature ?? null,
    confidential_computing: state.confidentialComputing,
    used_by: holder
      ? { plugin: holder.owner, workload: holder.workload, contract: String(holder.contract) }
      : null,
  }
}
