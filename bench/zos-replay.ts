// What a node with many deployments costs: replaying their journals at the start, and the memory they
// need. `bun bench/zos-replay.ts`, `node --import tsx bench/zos-replay.ts`.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Book } from '../plugins/zos/provision/book.ts'
import { apply, type DeploymentState } from '../plugins/zos/provision/journal/apply.ts'
import { journalPath, readFolder } from '../plugins/zos/provision/journal/folder.ts'
import type { JournalRecord } from '../plugins/zos/provision/journal/records.ts'
import { writeRecord } from '../plugins/zos/provision/journal/wire.ts'
import type { Keeper } from '../plugins/zos/provision/keeper.ts'
import { runtime } from '../src/runtime.ts'
import { deploymentOf, disk, machine, network } from '../test/helpers/zos-provision.ts'
import { measure } from './measure.ts'

/** Of ten twins; each has a network, a machine and two disks, and an outcome for each. */
const DEPLOYMENTS = 1000

const folder = mkdtempSync(join(tmpdir(), 'cvmd-bench-zos-'))
try {
  for (let i = 0; i < DEPLOYMENTS; i++) writeJournal(i)
  const states = (await readFolder(folder)).deployments.map(({ state }) => state)
  const before = memory()
  const kept = (await readFolder(folder)).deployments
  const bytes = (memory() - before) / kept.length
  const book = new Book()
  for (const [i, state] of states.entries()) book.add(stand(i, state))
  await measure([
    {
      name: `replay of ${DEPLOYMENTS} deployments`,
      count: 1,
      work: async () => {
        const { deployments } = await readFolder(folder)
        if (deployments.length !== DEPLOYMENTS) throw new Error('not all were read')
      },
    },
    {
      name: `sums over ${DEPLOYMENTS} deployments`,
      count: 1,
      work: () => {
        book.changed()
        if (book.used().cru !== BigInt(DEPLOYMENTS)) throw new Error('not all were counted')
      },
    },
  ])
  console.error(`memory of a deployment: ${Math.round(bytes)} bytes (heap after a collection)`)
} finally {
  rmSync(folder, { recursive: true, force: true })
}

function writeJournal(i: number): void {
  const twinId = 1 + (i % 10)
  const contractId = BigInt(1000 + i)
  const plans = [network(`net${i}`), machine('vm', `net${i}`, ['a']), disk('a', 10), disk('b', 20)]
  const { workloads, ...header } = deploymentOf(plans, { twinId, contractId })
  const contract = {
    type: 'node',
    nodeId: 11,
    deploymentHash: '0'.repeat(32),
    publicIps: [],
  } as const
  const records: JournalRecord[] = [{ record: 'deploy', at: 1, header, contract, workloads }]
  for (const { name } of workloads) {
    const data = JSON.stringify({ id: `${twinId}-${contractId}-${name}`, ip: '10.1.2.3' })
    const result = { created: 2, state: 'ok', message: '', data } as const
    records.push({ record: 'result', name, of: 'provision', result, retry: false })
  }
  const path = journalPath(folder, twinId, contractId)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, records.map(writeRecord).join(''))
  if (
    !records.reduce<DeploymentState | undefined>((state, record) => apply(state, record), undefined)
  ) {
    throw new Error('the records are wrong')
  }
}

/** As much of a keeper as a book asks for. */
function stand(i: number, state: DeploymentState): Keeper {
  const { twinId, contractId } = state.header
  return { id: `${twinId}-${contractId}-${i}`, twinId, contractId, state } as Keeper
}

/** Bytes of the heap after a collection. */
function memory(): number {
  if (runtime === 'bun') Bun.gc(true)
  else {
    setFlagsFromString('--expose-gc')
    runInNewContext('gc')()
  }
  return process.memoryUsage().heapUsed
}
