import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { deploymentOf, disk, machine, network, TestNode } from './zos-provision.ts'

/** What a deployment goes through in the test that kills a node at each of its steps. */
export const STORY = ['deploy', 'update', 'pause', 'resume', 'end'] as const
export type Chapter = (typeof STORY)[number]

export const FIRST = deploymentOf([
  machine('vm', 'net', ['a']),
  disk('a', 1),
  disk('gone', 1),
  network('net'),
])
export const SECOND = deploymentOf(
  [disk('new', 1, 1), network('net'), disk('a', 2, 1), machine('vm', 'net', ['a'])],
  { version: 1, metadata: 'second' },
)

/** What runs, in files: it is still there after a kill. */
export class DiskWorld extends Map<string, { data: string; paused: boolean }> {
  readonly #folder: string
  readonly #step: () => void

  /** @param step Called before and after each change. */
  constructor(folder: string, step: () => void = () => undefined) {
    super()
    this.#folder = folder
    this.#step = step
    mkdirSync(folder, { recursive: true })
    for (const name of readdirSync(folder)) {
      super.set(name, JSON.parse(readFileSync(join(folder, name), 'utf8')))
    }
  }

  override set(id: string, value: { data: string; paused: boolean }): this {
    this.#step()
    writeFileSync(join(this.#folder, id), JSON.stringify(value))
    this.#step()
    return super.set(id, value)
  }

  override delete(id: string): boolean {
    this.#step()
    rmSync(join(this.#folder, id), { force: true })
    this.#step()
    return super.delete(id)
  }
}

/** A node whose world is on disk; the same folder again is the same machine. */
export function storyNode(folder: string, step?: () => void): TestNode {
  return new TestNode(folder, {}, new DiskWorld(join(folder, 'world'), step))
}

/** Lets the contract say what it says in a chapter. */
export function setContract(node: TestNode, chapter: Chapter): void {
  const grace = chapter === 'pause' ? 'grace_period' : 'created'
  const state = chapter === 'end' ? 'deleted' : grace
  node.registry.agree(chapter === 'deploy' ? FIRST : SECOND, state)
}

export async function live(node: TestNode, chapter: Chapter): Promise<void> {
  setContract(node, chapter)
  if (chapter === 'deploy') await node.deployments.deploy(42, FIRST)
  else if (chapter === 'update') await node.deployments.update(42, SECOND)
  else await node.deployments.sync()
}

/** What the child wrote down: what began, what was acknowledged, and histories that were seen. */
export interface Noted {
  readonly began: Chapter | undefined
  readonly acknowledged: readonly Chapter[]
  readonly history: readonly string[]
}

const notes = (folder: string) => join(folder, 'notes')

export function note(folder: string, what: string): void {
  appendFileSync(notes(folder), `${what}\n`)
}

export function readNotes(folder: string): Noted {
  const lines = existsSync(notes(folder)) ? readFileSync(notes(folder), 'utf8').split('\n') : []
  const of = (kind: string) =>
    lines.filter((line) => line.startsWith(`${kind} `)).map((line) => line.slice(kind.length + 1))
  return {
    began: of('began').at(-1) as Chapter | undefined,
    acknowledged: of('acknowledged') as Chapter[],
    history: JSON.parse(of('history').at(-1) ?? '[]'),
  }
}
