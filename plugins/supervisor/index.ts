import type { RoutesOf } from '../../src/plugin.ts'
import { createSupervisor } from './apply/create-supervisor.ts'
import { supervisorPlugin } from './plugin.ts'

const supervisor = supervisorPlugin(createSupervisor)

export default supervisor
export type SupervisorApi = RoutesOf<typeof supervisor>
