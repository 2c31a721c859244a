import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { problem } from '../../src/errors.ts'
import { definePlugin } from '../../src/plugin.ts'
import { Config, isNode } from './config.ts'
import { notStarted, renderZosError } from './http/errors.ts'
import { zosRoutes } from './http/routes.ts'
import { permissions } from './permissions.ts'
import type { Zos } from './wiring/zos.ts'

const zos = definePlugin({
  name: 'zos',
  summary: 'A node of the ThreeFold grid: signed deployments become running workloads',
  config: Config,
  uses: ['gpus', 'daemon'],
  exposure: 'network',
  auth: 'own',
  permissions,
  renderError: (error, c) =>
    c.req.path.startsWith('/zos/') ? renderZosError(error) : problem(error),

  setup(context) {
    const { config, stateDir, signal } = context
    let opening: Promise<Zos> | undefined
    let zos: Zos | undefined
    let started = false
    const open = (): Promise<Zos> => {
      if (!started || signal.aborted) throw notStarted()
      opening ??= begin()
      return opening
    }
    const begin = async () => {
      try {
        const { startZos } = await import('./wiring/zos.ts')
        zos = await startZos(context)
        return zos
      } catch (error) {
        opening = undefined
        throw error
      }
    }
    return {
      routes: zosRoutes({
        open,
        requireAuth: config.require_auth,
        check: { referenceSlips: config.reference_slips },
        isWanted: () => {
          if (!started) throw notStarted()
          return zos?.isNode() || isWanted(config, stateDir)
        },
        isBelieved: (c) =>
          c.req.header('x-zos-twin') !== undefined &&
          (config.trust_twin_header || c.env.peer().address === 'unix'),
      }),
      async start() {
        started = true
        if (isWanted(config, stateDir)) await open()
      },
      async stop() {
        started = false
        await opening?.catch(() => undefined)
        await zos?.stop()
        opening = zos = undefined
      },
      notReady: () => zos?.notReady(),
    }
  },
})

/** Whether somebody made a grid node of this daemon: else its rooms are opened by the first question. */
function isWanted(config: Config, stateDir: string): boolean {
  const kept = ['registry.json', 'deployments']
  return isNode(config) || kept.some((name) => existsSync(join(stateDir, name)))
}

export default zos
