import * as v from 'valibot'
import type { BootInfo } from './boot-info.ts'
import { type Decision, deny, denyUnmeasured, type Policy, type Role } from './policy.ts'
import { asking, type Service } from './service.ts'

/** All three are required (spec dstack §9.3): half an answer is none. */
const Answer = v.object({
  isAllowed: v.boolean(),
  gatewayAppId: v.pipe(v.string(), v.maxLength(256)),
  reason: v.string(),
})

/** What upstream asks for here breaks GetMeta when a member is missing; nothing depends on them. */
const Facts = v.object({
  kmsContractAddr: v.optional(v.string()),
  gatewayAppId: v.optional(v.string()),
  chainId: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
  appImplementation: v.optional(v.string()),
  ethRpcUrl: v.optional(v.string()),
})

/**
 * Asks a policy service of dstack: `POST <url>/bootAuth/app` and `/bootAuth/kms`, `GET <url>` for
 * facts. Anything but a complete answer with a status of 200 to 299 is a failure.
 */
export function webhookPolicy(service: Service): Policy {
  const decide = async (role: Role, info: BootInfo, signal?: AbortSignal): Promise<Decision> => {
    const denied = denyUnmeasured(info, role)
    if (denied) return denied
    return asking(service, signal, async (ask) => {
      const { isAllowed, gatewayAppId, reason } = await ask(Answer, `bootAuth/${role}`, info)
      return isAllowed ? { allowed: true, gatewayAppId } : deny(reason)
    })
  }
  return {
    app: (info, signal) => decide('app', info, signal),
    kms: (info, signal) => decide('kms', info, signal),
    describe: (signal) =>
      asking(service, signal, async (ask) => {
        const { kmsContractAddr, ...facts } = await ask(Facts, '')
        return { isDev: false, kmsContractAddress: kmsContractAddr, ...facts }
      }),
  }
}
