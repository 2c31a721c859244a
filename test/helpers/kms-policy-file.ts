import { createHash } from 'node:crypto'
import { renameSync, writeFileSync } from 'node:fs'

/** The file of the policy `file`, written whole each time. */
export interface PolicyFile {
  readonly path: string
  change(change: (content: PolicyContent) => void): void
  /** Registers what `GetAttestationInfo` tells of a machine, as one that may be a KMS. */
  allowKms(info: Readonly<Record<string, string>>): void
  /** Registers an application by its description, on any device. */
  allowApp(compose: string): void
}

/** As `auth-simple` of dstack has it. */
export interface PolicyContent {
  osImages: string[]
  kms: { mrAggregated: string[]; devices: string[]; allowAnyDevice: boolean }
  apps: Record<string, { composeHashes: string[]; allowAnyDevice: boolean }>
}

/** Of all machines of these tests; hex. */
export const OS_IMAGE = '64f0d1545cd510a8dfed7ad609d105b5d41f0cb2afcfdda8867ede00c88add7a'

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

/** An application's id, hex: follows from its description. */
export const appIdOf = (compose: string): string => sha256(compose).slice(0, 40)

/** Nobody is registered in it yet. */
export function policyFile(path: string): PolicyFile {
  const content: PolicyContent = {
    osImages: [OS_IMAGE],
    kms: { mrAggregated: [], devices: [], allowAnyDevice: false },
    apps: {},
  }
  const change = (by: (content: PolicyContent) => void) => {
    by(content)
    writeFileSync(`${path}.new`, JSON.stringify(content))
    renameSync(`${path}.new`, path)
  }
  change(() => undefined)
  return {
    path,
    change,
    allowKms: ({ mr_aggregated = '', device_id = '' }) =>
      change(({ kms }) => {
        kms.mrAggregated.push(mr_aggregated)
        kms.devices.push(device_id)
      }),
    allowApp: (compose) =>
      change(({ apps }) => {
        apps[appIdOf(compose)] = { composeHashes: [sha256(compose)], allowAnyDevice: true }
      }),
  }
}
