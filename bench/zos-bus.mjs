// Commands over the message bus, through a real Redis: zos-bus.ts in a fresh process per runtime.

import { inProcess } from './in-process.mjs'
import { has } from './server.mjs'

const measured = inProcess('bench/zos-bus.ts')

export async function run(options) {
  if (!has('redis-server')) {
    const required = (process.env.CVMD_REQUIRE ?? '').split(',').includes('redis-server')
    if (required) throw new Error('redis-server is not installed, and CVMD_REQUIRE names it')
    return { rows: [], missing: ['zos-bus: needs redis-server'] }
  }
  const { rows, missing } = await measured(options)
  const bare = new Map(
    rows.filter((row) => row.case.startsWith('bare')).map((row) => [keyOf(row), row['median ns']]),
  )
  const beside = (row) => ({ ...row, 'times bare Redis': row['median ns'] / bare.get(keyOf(row)) })
  return { rows: rows.map(beside), missing }
}

/** The yardstick of a row is the one with as many requests at a time. */
function keyOf({ runtime, case: name }) {
  return `${runtime} ${/\d+ at a time/.exec(name)?.[0]}`
}
