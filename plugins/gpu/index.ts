import { definePlugin, type RoutesOf } from '../../src/plugin.ts'
import { Config } from './config.ts'
import { gpuRoutes } from './routes.ts'

const gpu = definePlugin({
  name: 'gpu',
  summary: 'GPUs of the machine, what their drivers tell, and who has them',
  config: Config,
  requires: 'gpu',
  uses: ['gpus'],
  exposure: 'network',
  permissions: () => ({
    read: ['/usr/share/misc/pci.ids', '/usr/share/hwdata/pci.ids'],
    run: ['nvidia-smi'],
  }),
  setup: ({ config, services }) => ({ routes: gpuRoutes(services.gpus, config.classes) }),
})

export default gpu

/** For `hc<GpuApi>(…)`. */
export type GpuApi = RoutesOf<typeof gpu>
