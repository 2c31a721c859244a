import type { RoutesOf } from '../../src/plugin.ts'
import { supervisorPlugin } from './plugin.ts'

const supervisor = supervisorPlugin(async (options) => {
  // Loaded when it is used: most machines have no container engine.
  const { createSupervisor } = await import('./apply/create-supervisor.ts')
  return createSupervisor(options)
})

export default supervisor
export type SupervisorApi = RoutesOf<typeof supervisor>
