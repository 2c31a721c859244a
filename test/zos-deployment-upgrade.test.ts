import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { readTrustedDeployment } from '../plugins/zos/deployment/read.ts'
import { planUpgrade, type UpgradeOptions } from '../plugins/zos/deployment/upgrade.ts'
import { type Deployment, WORKLOAD_TYPES, workloadId } from '../plugins/zos/model.ts'
import {
  everyType,
  refusal,
  trusted,
  VALID_DATA,
  wireWorkload,
  zosVectors,
} from './helpers/zos-deployment.ts'

const SUFFIX = ': upgrade validation error'

function outcome(current: Deployment, next: Deployment, options?: UpgradeOptions) {
  let plan: string[] = []
  const refused = refusal(() => {
    plan = planUpgrade(current, next, options).map(
      ({ op, workload, previous }) =>
        `${op} ${workload.name}${previous ? ` ${previous.version}` : ''}`,
    )
  })
  if (refused === undefined) return plan
  assert.equal(refused.kind, 'invalid')
  assert.ok(refused.message.endsWith(SUFFIX), refused.message)
  return refused.message.slice(0, -SUFFIX.length)
}

test('zos upgrade: the shared cases', (t) => {
  interface Case {
    readonly name: string
    readonly current_json: string
    readonly next_json: string
    readonly error: string | null
    readonly ops: { op: string; id: string; type: string }[]
  }
  for (const each of zosVectors<Case[]>(t, 'upgrades') ?? []) {
    const current = readTrustedDeployment(each.current_json)
    const next = readTrustedDeployment(each.next_json)
    const found = outcome(current, next)
    if (each.error !== null) {
      assert.equal(found, each.error, each.name)
      continue
    }
    const operations = planUpgrade(current, next)
      .map(({ op, workload: { name, type } }) => {
        return { id: workloadId(next.twinId, next.contractId, name), op, type }
      })
      .sort((a, b) => `${a.op} ${a.id}`.localeCompare(`${b.op} ${b.id}`))
    assert.deepEqual(operations, each.ops, each.name)
  }
})

const zmount = (name: string, version: number, size = 1) =>
  wireWorkload('zmount', { size }, { name, version })

test('zos upgrade: versions decide, not data', () => {
  const current = trusted([zmount('a', 0), zmount('b', 0), zmount('c', 0)])
  const next = (workloads: object[], version = 1) => trusted(workloads, { version })
  assert.deepEqual(
    outcome(current, next([zmount('d', 1), zmount('b', 1, 1), zmount('a', 0, 99)])),
    ['add d', 'update b 0', 'remove c'],
  )
  assert.equal(
    outcome(current, next([zmount('a', 0), zmount('d', 0)])),
    "invalid version number for workload 'd' expected '1'",
  )
  assert.equal(outcome(current, next([], 5)), 'expecting deployment version 1, got 5')
  assert.equal(outcome(current, { ...next([]), twinId: 43 }), 'cannot change deployment or twin id')
  assert.equal(
    outcome(current, next([zmount('a', 1), zmount('a', 1)])),
    "new deployment is invalid: multiple workloads with the same name 'a'",
  )
})

const UPDATABLE = ['zmount', 'volume', 'network', 'network-light', 'qsfs', 'zdb']

test('zos upgrade: which types can be updated', () => {
  for (const type of WORKLOAD_TYPES) {
    const beside = wireWorkload('zmachine', VALID_DATA.zmachine, { name: 'zmachine' })
    const at = (version: number) =>
      trusted([beside, wireWorkload(type, VALID_DATA[type], { version })], { version })
    const found = outcome(at(0), at(1))
    const able = UPDATABLE.includes(type)
    assert.deepEqual(found, able ? ['update w 0'] : `workload '${type}' does not support upgrade`)
    const canUpdate = (asked: string) => asked === type
    assert.deepEqual(outcome(at(0), at(1), { canUpdate }), ['update w 0'])
  }
})

test('zos upgrade: a type cannot be changed to any other', () => {
  const all = readTrustedDeployment(everyType())
  for (const from of all.workloads) {
    for (const to of readTrustedDeployment(everyType(1)).workloads) {
      const machine = all.workloads.find(({ type }) => type === 'zmachine')
      assert.ok(machine)
      const workload = { ...to, name: 'w' }
      const current = { ...all, workloads: [machine, { ...from, name: 'w' }] }
      const next = { ...all, version: 1, workloads: [machine, workload] }
      const found = outcome(current, next)
      if (from.type !== to.type) assert.equal(found, "cannot change workload type 'w'")
      else assert.notEqual(found, "cannot change workload type 'w'")
    }
  }
})

test('zos upgrade: what the rules say of any two deployments', () => {
  const names = ['a', 'b', 'c', 'd']
  const subset = fc.uniqueArray(fc.constantFrom(...names))
  fc.assert(
    fc.property(
      subset,
      subset,
      fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
      fc.nat(9),
      (before, after, touched, version) => {
        const isTouched = (name: string) => touched[names.indexOf(name)] === true
        const current = trusted(
          before.map((name) => zmount(name, version)),
          { version },
        )
        const next = trusted(
          after.map((name) => zmount(name, isTouched(name) ? version + 1 : version)),
          { version: version + 1 },
        )
        const late = after.find((name) => !before.includes(name) && !isTouched(name))
        const expected = late
          ? `invalid version number for workload '${late}' expected '${version + 1}'`
          : [
              ...after
                .filter(isTouched)
                .map((name) =>
                  before.includes(name) ? `update ${name} ${version}` : `add ${name}`,
                ),
              ...before.filter((name) => !after.includes(name)).map((name) => `remove ${name}`),
            ]
        assert.deepEqual(outcome(current, next), expected)
      },
    ),
  )
})
