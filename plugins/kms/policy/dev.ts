import type { Policy } from './policy.ts'

/** Allows everybody, measured or not, and says so; for development alone. */
export function devPolicy(gatewayAppId = ''): Policy {
  const everybody = async () => ({ allowed: true, gatewayAppId }) as const
  return {
    app: everybody,
    kms: everybody,
    describe: async () => ({ isDev: true, gatewayAppId }),
  }
}
