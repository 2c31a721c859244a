// What the daemon does with the text of a deployment before it believes any of it.
import { challengeOf } from '../../plugins/zos/deployment/hash.ts'
import { readDeployment } from '../../plugins/zos/deployment/read.ts'
import { deploymentWire } from '../../plugins/zos/deployment/wire.ts'
import { printJson } from '../../plugins/zos/json/print.ts'

/** Reads a deployment, and again what is printed of it: gives both texts that would be hashed. */
export function readTwice(text: string): { readonly first: string; readonly second: string } {
  const deployment = readDeployment(text)
  const printed = printJson(deploymentWire({ deployment, results: [] }))
  return { first: challengeOf(deployment), second: challengeOf(readDeployment(printed)) }
}
