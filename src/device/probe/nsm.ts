import { Nsm } from '../nsm.ts'
import { NSM } from '../paths.ts'
import type { Finding } from './finding.ts'
import type { Look } from './look.ts'
import { nodeProbe } from './node.ts'

/** Whether the Nitro Secure Module answers DescribeNSM. */
export async function probeNsm(look: Look): Promise<Finding> {
  return await nodeProbe(look, {
    path: NSM,
    tried: 'ioctl DescribeNSM',
    absent: 'run inside a Nitro enclave with CONFIG_NSM (Linux 6.8 or later)',
    prove: async () => {
      const { moduleId, version } = await new Nsm(look.transport).describe()
      return `NSM ${version} of ${moduleId} answers`
    },
  })
}
