import type { RoutesOf } from '../../src/plugin.ts'
import zos from './plugin.ts'

export default zos

/** For `hc<ZosApi>(…)`. */
export type ZosApi = RoutesOf<typeof zos>
