import { EvidenceMetrics } from '../../src/attester/evidence-metrics.ts'
import { SelfTest } from '../../src/attester/self-test.ts'
import { prpcError } from '../../src/compat/prpc.ts'
import { problem } from '../../src/errors.ts'
import { definePlugin, type RoutesOf } from '../../src/plugin.ts'
import { Config } from './config.ts'
import { Quotes } from './quotes.ts'
import { tdxRoutes } from './routes.ts'
import { readVmConfig } from './vm-config.ts'

const tdx = definePlugin({
  name: 'tdx',
  summary: 'Quotes, registers and boot event log of an Intel TDX guest',
  config: Config,
  requires: 'tdx',
  home: 'guest',
  uses: ['attestation'],
  permissions: ({ vm_config }) => (typeof vm_config === 'string' ? {} : { read: [vm_config.file] }),
  renderError: (error, c) =>
    c.req.path.startsWith('/cvmd/') ? problem(error) : prpcError(error, c),
  setup({ config, services, events, metrics, signal }) {
    const figures = new EvidenceMetrics(metrics, 'cvmd_tdx_quote', 'quote')
    const quotes = new Quotes(services.attestation, figures)
    const selfTest = new SelfTest({
      intervalMs: config.self_test_interval_ms,
      prove: async (challenge, options) => {
        await quotes.make(challenge, options)
      },
      events,
      signal,
    })
    let vmConfig = ''
    return {
      routes: tdxRoutes({ attester: services.attestation, quotes, vmConfig: () => vmConfig }),
      start: async () => {
        vmConfig = await readVmConfig(config.vm_config)
        selfTest.start()
      },
      stop: () => selfTest.stop(),
      notReady: () => selfTest.notReady(),
    }
  },
})

export default tdx

/** For `hc<TdxApi>(…)`. */
export type TdxApi = RoutesOf<typeof tdx>
