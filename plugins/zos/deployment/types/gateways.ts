import { list, optional, struct } from '../../json/compound.ts'
import { bool, string } from '../../json/scalars.ts'
import type { DataOf, GatewayBackends } from '../../model.ts'
import { checkBackend } from '../backends.ts'
import { must, type WorkloadKind } from './kind.ts'

const base = {
  tlsPassthrough: ['tls_passthrough', bool],
  backends: ['backends', list(string('zos.Backend'))],
  network: ['network', optional(string('gridtypes.Name'))],
} as const

export const gatewayName: WorkloadKind<'gateway-name-proxy'> = {
  form: struct<DataOf['gateway-name-proxy']>('zos.GatewayNameProxy', {
    name: ['name', string()],
    ...base,
  }),
  check(data) {
    must(/^[\w-]+$/.test(data.name), `name ${data.name} is invalid`)
    checkBackends(data)
  },
  challenge: (data) => data.name + challenge(data),
  updatable: false,
}

export const gatewayFqdn: WorkloadKind<'gateway-fqdn-proxy'> = {
  form: struct<DataOf['gateway-fqdn-proxy']>('zos.GatewayFQDNProxy', {
    fqdn: ['fqdn', string()],
    ...base,
  }),
  check(data) {
    must(/^(?:[\w-]+\.)+[\w-]{2,}$/.test(data.fqdn), `fqdn ${data.fqdn} is invalid`)
    checkBackends(data)
  },
  challenge: (data) => data.fqdn + challenge(data),
  updatable: false,
}

function checkBackends({ backends, tlsPassthrough }: GatewayBackends): void {
  must(backends.length > 0, 'backends list can not be empty')
  for (const backend of backends) {
    const wrong = checkBackend(backend, tlsPassthrough)
    must(wrong === undefined, `failed to validate backend '${backend}': ${wrong}`)
  }
}

function challenge({ tlsPassthrough, backends, network }: GatewayBackends): string {
  return tlsPassthrough + backends.join('') + (network ?? '')
}
