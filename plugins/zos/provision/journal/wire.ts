import { hash } from 'node:crypto'
import { readWorkload } from '../../deployment/read.ts'
import { workloadWire } from '../../deployment/wire.ts'
import { printJson } from '../../json/print.ts'
import type { Result, Workload } from '../../model.ts'
import type { WorkloadView } from '../deployments.ts'
import type { Header, JournalRecord, WorkloadState } from './records.ts'

/** Digits of SHA-256 over what stands before it: tells a record that was damaged. */
const SUM_DIGITS = 16
const SUM = /,"sum":"([0-9a-f]{16})"\}$/

/**
 * A record as a line of the journal, with its line feed: JSON whose last member is a checksum.
 * Workloads are JSON in a string, as are 64-bit integers, so that any tool can read the line and no
 * number is rounded.
 */
export function writeRecord(record: JournalRecord): string {
  const body = JSON.stringify(toStored(record)).slice(0, -1)
  return `${body},"sum":"${sumOf(body)}"}\n`
}

/**
 * Reads a line, without its line feed.
 *
 * @throws {SyntaxError} When it is not what {@link writeRecord} wrote.
 */
export function readRecord(line: string): JournalRecord {
  const sum = SUM.exec(line)
  const body = line.slice(0, -`,"sum":""}`.length - SUM_DIGITS)
  if (!sum || sum[1] !== sumOf(body)) throw new SyntaxError('its checksum is wrong')
  try {
    return fromStored(JSON.parse(`${body}}`))
  } catch (cause) {
    // Nothing of the line is quoted: it holds keys and passwords.
    throw new SyntaxError('it is no record of this version', { cause })
  }
}

function sumOf(body: string): string {
  return hash('sha256', body).slice(0, SUM_DIGITS)
}

// biome-ignore lint/suspicious/noExplicitAny: the checksum says that we wrote it.
type Stored = any

function toStored(record: JournalRecord): Stored {
  switch (record.record) {
    case 'deploy':
      return {
        ...record,
        header: storedHeader(record.header),
        workloads: record.workloads.map(workloadText),
      }
    case 'update':
      return {
        ...record,
        header: storedHeader(record.header),
        add: record.add.map(workloadText),
        update: record.update.map(workloadText),
      }
    case 'result':
      return { ...record, workload: record.workload && workloadText(record.workload) }
    case 'snapshot':
      return {
        ...record,
        header: storedHeader(record.header),
        workloads: record.workloads.map(storedState),
      }
    case 'past':
      return { record: 'past', entry: storedView(record.entry) }
    case 'want':
      return record
  }
}

function fromStored(stored: Stored): JournalRecord {
  switch (stored.record) {
    case 'deploy':
      return {
        ...stored,
        header: headerOf(stored.header),
        workloads: stored.workloads.map(readWorkload),
      }
    case 'update':
      return {
        ...stored,
        header: headerOf(stored.header),
        add: stored.add.map(readWorkload),
        update: stored.update.map(readWorkload),
      }
    case 'result': {
      const { workload, ...rest } = stored
      return workload === undefined ? rest : { ...rest, workload: readWorkload(workload) }
    }
    case 'snapshot':
      return {
        ...stored,
        header: headerOf(stored.header),
        workloads: stored.workloads.map(stateOf),
      }
    case 'past':
      return { record: 'past', entry: viewOf(stored.entry) }
    case 'want':
      return stored
    default:
      throw new SyntaxError('an unknown kind of record')
  }
}

function workloadText(workload: Workload): string {
  return printJson(workloadWire(workload))
}

function storedView({ workload, result }: WorkloadView): Stored {
  return { workload: workloadText(workload), result }
}

function viewOf({ workload, result }: { workload: string; result: Result }): WorkloadView {
  return { workload: readWorkload(workload), result }
}

function storedState(state: WorkloadState): Stored {
  const { next, previous } = state.update ?? {}
  return {
    ...state,
    workload: workloadText(state.workload),
    update: next && previous && { next: workloadText(next), previous: workloadText(previous) },
  }
}

function stateOf({ workload, update, ...rest }: Stored): WorkloadState {
  return {
    ...rest,
    workload: readWorkload(workload),
    update: update && {
      next: readWorkload(update.next),
      previous: readWorkload(update.previous),
    },
  }
}

function storedHeader(header: Header): Stored {
  const { requests, weightRequired, ...requirement } = header.signatureRequirement
  return {
    ...header,
    contractId: String(header.contractId),
    expiration: String(header.expiration),
    signatureRequirement: {
      ...requirement,
      weightRequired: String(weightRequired),
      requests: requests.map((request) => ({ ...request, weight: String(request.weight) })),
    },
  }
}

function headerOf(stored: Stored): Header {
  const { requests, weightRequired, ...requirement } = stored.signatureRequirement
  return {
    ...stored,
    contractId: BigInt(stored.contractId),
    expiration: BigInt(stored.expiration),
    signatureRequirement: {
      ...requirement,
      weightRequired: BigInt(weightRequired),
      requests: requests.map((request: Stored) => ({ ...request, weight: BigInt(request.weight) })),
    },
  }
}
