import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import type { NetworkInterfaceInfo } from 'node:os'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import type { TestContext } from 'node:test'
import { createNodeFacts, type NodeFactsOptions } from '../../plugins/zos/node/create-node-facts.ts'
import type { NodeFacts } from '../../plugins/zos/node/facts.ts'

/** A machine of `test/fixtures/zos-node/`. */
export type Machine = 'server' | 'cloud' | 'container'

/** A folder that goes away with the test. */
export function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'cvmd-node-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/**
 * Unpacks a machine. Its file has a line for each link, `/path -> target`, and each file, `/path =
 * text`, or `/path:` with the lines of the text below, indented by two spaces.
 */
export function machineRoot(t: TestContext, machine: Machine): string {
  const root = folder(t)
  const file = resolve(import.meta.dirname, '../fixtures/zos-node', `${machine}.tree`)
  const lines = readFileSync(file, 'utf8').split('\n')
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? ''
    const [, path = '', rest = ''] = /^(\/\S*?)(:$| = ?.*| -> .*)/.exec(line) ?? []
    if (path === '') continue
    const place = join(root, path)
    mkdirSync(dirname(place), { recursive: true })
    if (rest.startsWith(' -> ')) {
      symlinkSync(rest.slice(4), place)
      continue
    }
    const text = rest === ':' ? [] : [rest.slice(3)]
    while (rest === ':' && lines[at + 1]?.startsWith('  ')) text.push(lines[++at]?.slice(2) ?? '')
    writeFileSync(place, `${text.join('\n')}\n`)
  }
  return root
}

/** A folder of programs for `PATH`: shell scripts by their names. */
export function programs(t: TestContext, scripts: Readonly<Record<string, string>>): string {
  const path = folder(t)
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(path, name), `#!/bin/sh\n${script}\n`)
    chmodSync(join(path, name), 0o755)
  }
  return path
}

/** What a test sees of the node. */
export interface TestNode {
  readonly facts: NodeFacts
  /** Warnings. */
  readonly log: readonly string[]
  readonly stateFolder: string
}

/** Facts of a machine without programs, unless options say otherwise; stopped with the test. */
export function nodeFacts(t: TestContext, options: Partial<NodeFactsOptions> = {}): TestNode {
  const log: string[] = []
  const stateFolder = options.stateFolder ?? join(folder(t), 'state')
  const facts = createNodeFacts({
    root: '/',
    dataFolders: [],
    stateFolder,
    version: '1.2.3',
    workloadPorts: () => [],
    workloads: () => 0,
    log: { warn: (message) => log.push(message) },
    path: '/nonexistent',
    ...options,
  })
  t.after(() => facts.stop())
  return { facts, log, stateFolder }
}

/** Addresses in the shape of `os.networkInterfaces()`, from `10.1.2.3/24`. */
export function interfaces(
  all: Readonly<Record<string, readonly string[]>>,
  mac = '02:00:00:00:00:01',
): () => Record<string, NetworkInterfaceInfo[]> {
  const info = (text: string): NetworkInterfaceInfo => {
    const [address = '', length = '0'] = text.split('/')
    const internal = address === '::1' || address.startsWith('127.')
    const common = { address, mac, internal, cidr: text }
    return address.includes(':')
      ? { ...common, family: 'IPv6', netmask: mask6(Number(length)), scopeid: 0 }
      : { ...common, family: 'IPv4', netmask: mask4(Number(length)) }
  }
  const entries = Object.entries(all).map(([name, texts]) => [name, texts.map(info)] as const)
  return () => Object.fromEntries(entries)
}

function mask4(length: number): string {
  const bits = '1'.repeat(length).padEnd(32, '0')
  return (bits.match(/.{8}/g) ?? []).map((part) => Number.parseInt(part, 2)).join('.')
}

function mask6(length: number): string {
  const bits = '1'.repeat(length).padEnd(128, '0')
  const parts = (bits.match(/.{16}/g) ?? []).map((part) => Number.parseInt(part, 2).toString(16))
  return parts.join(':').replace(/(:0)+$/, '::')
}
