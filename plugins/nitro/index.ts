import { EvidenceMetrics } from '../../src/attester/evidence-metrics.ts'
import { SelfTest } from '../../src/attester/self-test.ts'
import { prpcError } from '../../src/compat/prpc.ts'
import { problem } from '../../src/errors.ts'
import { definePlugin, type RoutesOf } from '../../src/plugin.ts'
import { Config } from './config.ts'
import { Module } from './module.ts'
import { nitroRoutes } from './routes.ts'

const nitro = definePlugin({
  name: 'nitro',
  summary: 'Attestation documents and PCRs of an AWS Nitro enclave',
  config: Config,
  requires: 'nsm',
  home: 'guest',
  uses: ['attestation'],
  renderError: (error, c) =>
    c.req.path.startsWith('/cvmd/') ? problem(error) : prpcError(error, c),
  setup({ config, services, events, metrics, signal }) {
    const figures = new EvidenceMetrics(metrics, 'cvmd_nitro_document', 'document')
    const module = new Module(services.attestation, figures, events)
    const selfTest = new SelfTest({
      intervalMs: config.self_test_interval_ms,
      prove: async (userData, options) => {
        await module.attest({ userData }, options)
      },
      events,
      signal,
    })
    return {
      routes: nitroRoutes(module),
      start: () => selfTest.start(),
      stop: () => selfTest.stop(),
      notReady: () => selfTest.notReady(),
    }
  },
})

export default nitro

/** For `hc<NitroApi>(…)`. */
export type NitroApi = RoutesOf<typeof nitro>
