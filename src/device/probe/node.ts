import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { explained, type Finding } from './finding.ts'
import type { Look } from './look.ts'

/** A device node, and what proves that it works. */
export interface NodeProof {
  readonly path: string
  readonly tried: string
  /** What to do when it is not there. */
  readonly absent: string
  /** Uses the device; gives what that means, throws when it does not work. */
  prove(): Promise<string>
}

/** Probes a device that a transport can talk to: it is a character device and answers. */
export async function nodeProbe(look: Look, node: NodeProof): Promise<Finding> {
  const { path, tried, absent } = node
  try {
    const kind = await look.transport.stat(path)
    if (look.stands) return { path, state: 'present', meaning: `${path} stands for the device` }
    if (kind !== 'character-device') {
      const meaning = `${path} is no character device`
      return { path, tried: 'stat', state: 'absent', meaning, remedy: absent }
    }
  } catch (error) {
    return explained(error, { path, tried: 'stat', absent })
  }
  try {
    return { path, tried, state: 'present', meaning: await node.prove() }
  } catch (error) {
    return explained(error, { path, tried, absent, noNative: look.noNative })
  }
}

/** Probes any other path: this process may read and write it. */
export async function pathProbe(root: string, path: string, absent: string): Promise<Finding> {
  const tried = 'access'
  try {
    await access(join(root, path), constants.R_OK | constants.W_OK)
    return { path, tried, state: 'present', meaning: `${path} can be opened` }
  } catch (error) {
    return explained(error, { path, tried, absent })
  }
}
