import * as v from 'valibot'
import { SelfTestInterval } from '../../src/attester/self-test.ts'

/** The table `[plugins.tdx]`. */
export const Config = v.strictObject({
  vm_config: v.optional(
    v.pipe(
      v.union([
        v.string(),
        v.strictObject({
          file: v.pipe(v.string(), v.startsWith('/', 'Expected an absolute path')),
        }),
      ]),
      v.description('What this machine was configured with, or the file that says so'),
    ),
    '',
  ),
  self_test_interval_ms: SelfTestInterval,
})

export type Config = v.InferOutput<typeof Config>
