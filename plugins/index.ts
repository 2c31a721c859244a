import type { AnyPlugin } from '../src/plugin.ts'
import actions from './actions/index.ts'
import eventlog from './eventlog/index.ts'
import gpu from './gpu/index.ts'
import guest from './guest/index.ts'
import kms from './kms/index.ts'
import nitro from './nitro/index.ts'
import supervisor from './supervisor/index.ts'
import tdx from './tdx/index.ts'
import uploads from './uploads/index.ts'
import zos from './zos/index.ts'

/** Every built-in plugin: one import and one line each, so that bundlers see them. */
export const builtins: readonly AnyPlugin[] = [
  eventlog,
  actions,
  uploads,
  tdx,
  nitro,
  guest,
  kms,
  supervisor,
  zos,
  gpu,
]
