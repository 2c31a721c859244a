import * as v from 'valibot'
import { SelfTestInterval } from '../../src/attester/self-test.ts'

/** The table `[plugins.nitro]`. */
export const Config = v.strictObject({ self_test_interval_ms: SelfTestInterval })
