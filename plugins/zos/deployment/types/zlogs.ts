import { struct } from '../../json/compound.ts'
import { string } from '../../json/scalars.ts'
import type { DataOf } from '../../model.ts'
import { ZosError } from '../../zos-error.ts'
import { GoUrlError, parseGoUrl } from '../go-url.ts'
import { must, type WorkloadKind } from './kind.ts'

const SCHEMES = ['redis', 'ws', 'wss']

export const zlogs: WorkloadKind<'zlogs'> = {
  form: struct<DataOf['zlogs']>('zos.ZLogs', {
    zmachine: ['zmachine', string('gridtypes.Name')],
    output: ['output', string()],
  }),
  check({ zmachine, output }, neighbours) {
    const found = neighbours.typeOf(zmachine) === 'zmachine'
    must(found, `no zmachine with name '${zmachine}' found`)
    const scheme = schemeOf(output)
    must(SCHEMES.includes(scheme), `invalid output schema '${scheme}' not supported`)
  },
  challenge: ({ zmachine, output }) => zmachine + output,
  updatable: false,
}

function schemeOf(output: string): string {
  try {
    return parseGoUrl(output).scheme
  } catch (cause) {
    if (!(cause instanceof GoUrlError)) throw cause
    // Unlike there, the address is not told: it may hold a password.
    throw new ZosError('invalid', `invalid url supplied in output: ${cause.message}`, { cause })
  }
}
