import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A document like that of spec zos §11.3, with an id that no number holds. */
export const DOCUMENT = `{"node":{"id":11,"twin_id":17,"farm_id":1},
 "farm":{"id":1,"twin_id":2},
 "twins":[
  {"id":42,"key_type":"ed25519","public_key":"${'8A'.repeat(32)}","relay":"r1.example_r2.example","pk":null},
  {"id":43,"public_key":"${'8b'.repeat(32)}","relay":null,"pk":"${'02'.repeat(33)}"}],
 "contracts":[
  {"contract_id":18446744073709551615,"twin_id":42,"node_id":11,"type":"node",
   "deployment_hash":"354EFA689CB3FD56B6599BA5561DAE86","state":"created",
   "public_ips":[{"ip":"2001:0DB8::0005/64","gateway":"2001:db8:0::1"}]},
  {"contract_id":9007199254740993,"twin_id":42,"node_id":11,"type":"node",
   "deployment_hash":"354efa689cb3fd56b6599ba5561dae86","state":"grace_period"},
  {"contract_id":3,"twin_id":42,"node_id":11,"type":"node",
   "deployment_hash":"354efa689cb3fd56b6599ba5561dae86","state":"deleted","public_ips":[]},
  {"contract_id":4,"twin_id":42,"node_id":12,"type":"node",
   "deployment_hash":"354efa689cb3fd56b6599ba5561dae86","state":"created","public_ips":[]},
  {"contract_id":5,"twin_id":42,"type":"name","name":"web","state":"deleted"},
  {"contract_id":6,"twin_id":42,"type":"name","name":"web","state":"created"},
  {"contract_id":7,"twin_id":42,"node_id":11,"type":"rent","state":"created"}],
 "rent_contract":7,"admin_twins":[42]}`

/** A folder that is gone afterwards. */
export async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-zos-registry-'))
  try {
    await work(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Waits until something holds; says what was missing when it does not for long. */
export async function eventually(what: string, holds: () => boolean, ms = 20_000): Promise<void> {
  const end = performance.now() + ms
  while (!holds()) {
    if (performance.now() > end) throw new Error(`it did not come true that ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
