import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { backendAddress, checkBackend } from '../plugins/zos/deployment/backends.ts'
import { capacityOf, rootSizeOf } from '../plugins/zos/deployment/capacity.ts'
import { parseGoUrl } from '../plugins/zos/deployment/go-url.ts'
import { challengeOf, hashOf, workloadChallenge } from '../plugins/zos/deployment/hash.ts'
import { deviceName, networkId } from '../plugins/zos/deployment/ids.ts'
import { readDeployment, readWorkload } from '../plugins/zos/deployment/read.ts'
import { compareUtf8 } from '../plugins/zos/deployment/utf8-order.ts'
import { deploymentWire, workloadWire } from '../plugins/zos/deployment/wire.ts'
import { printJson } from '../plugins/zos/json/print.ts'
import type { Deployment, Result, WorkloadOf } from '../plugins/zos/model.ts'
import {
  everyType,
  refusal,
  trusted,
  VALID_DATA,
  type WireWorkload,
  wireDeployment,
  wireWorkload,
  zosVectors,
} from './helpers/zos-deployment.ts'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const check = (...workloads: object[]) =>
  refusal(() => readDeployment(wireDeployment(workloads)))?.message

test('zos deployment: the shared deployments hash, and count, as in the reference', (t) => {
  interface Case {
    readonly name: string
    readonly deployment_json: string
    readonly challenge: string
    readonly hash: string
    readonly workloads: { challenge: string; capacity: Record<string, string> }[]
  }
  for (const each of zosVectors<Case[]>(t, 'deployments') ?? []) {
    const deployment = readDeployment(each.deployment_json)
    assert.equal(challengeOf(deployment), each.challenge, each.name)
    assert.equal(hex(hashOf(deployment)), each.hash, each.name)
    assert.equal(deployment.workloads.length, each.workloads.length)
    for (const [i, workload] of deployment.workloads.entries()) {
      assert.equal(workloadChallenge(workload), each.workloads[i]?.challenge, each.name)
      assert.deepEqual(texts(capacityOf(workload)), each.workloads[i]?.capacity, each.name)
    }
  }
})

const texts = (capacity: object) =>
  Object.fromEntries(Object.entries(capacity).map(([key, value]) => [key, String(value)]))

test('zos deployment: the shared structures are judged as in the reference', (t) => {
  interface Case {
    readonly name: string
    readonly deployment_json: string
    readonly valid_error: string | null
    readonly match: 'none' | 'exact' | 'prefix'
  }
  const cases = zosVectors<Case[]>(t, 'validation') ?? []
  for (const { name, deployment_json, valid_error, match } of cases) {
    const slips = { referenceSlips: true }
    const { message = null, kind } = refusal(() => readDeployment(deployment_json, slips)) ?? {}
    if (match !== 'prefix') assert.equal(message, valid_error, name)
    else assert.ok(message?.startsWith(valid_error as string), `${name}: ${message}`)
    assert.equal(kind, match === 'none' ? undefined : 'invalid', name)
    const strict = refusal(() => readDeployment(deployment_json))?.message ?? null
    const expected = name.includes('wrong_type_public_ip')
      ? /^workload of name '\w+' is not a public ip$/
      : undefined
    if (expected) assert.match(strict ?? '', expected)
    else assert.equal(strict, message, name)
  }
})

test('zos deployment: every type is read, and hashes to a known text', () => {
  const deployment = readDeployment(everyType())
  const challenges = Object.fromEntries(
    deployment.workloads.map((each) => [each.type, workloadChallenge(each)]),
  )
  const machine = 'net110.1.2.2'
  const rest = '011073741824disk/data/initA=1B=2'
  assert.deepEqual(challenges, {
    zmount: '0zmountzmount10',
    volume: '0volumevolume10',
    qsfs: '0qsfsqsfs112000',
    network: '0networknetwork10.1.0.0/1610.1.2.0/24k7000p10.1.3.0/2410.1.3.0/24',
    'network-light': `0network_lightnetwork-light<nil>10.1.2.0/240${'ab'.repeat(32)}`,
    ipv4: '0ipv4ipv4',
    ip: '0ipiptruefalse',
    zmachine: `0zmachinezmachinehttps://hub.example/x.flisttrue${machine}${rest}`,
    'zmachine-light': `0zmachine_lightzmachine-lighthttps://hub.example/x.flist${machine}${rest}`,
    zlogs: '0zlogszlogszmachineredis://10.1.2.3:6379/logs',
    zdb: '0zdbzdb1seqpfalse',
    'gateway-name-proxy': '0gateway_name_proxygateway-name-proxyshopfalsehttp://10.1.2.3',
    'gateway-fqdn-proxy': '0gateway_fqdn_proxygateway-fqdn-proxya.example.comtrue10.1.2.3:1',
  })
})

test('zos deployment: contract, signatures and results are not hashed, corex is not either', () => {
  const [, base] = hashes({}, {})
  const workload = (data: object, more: WireWorkload = {}) =>
    wireWorkload('zmachine', { ...VALID_DATA.zmachine, ...data }, more)
  const machine = hex(hashOf(trusted([workload({})])))
  assert.equal(hex(hashOf(trusted([workload({ corex: true })]))), machine)
  assert.equal(hex(hashOf(trusted([workload({}, { result: { state: 'ok' } })]))), machine)
  assert.notEqual(hex(hashOf(trusted([workload({ entrypoint: '/x' })]))), machine)
  assert.equal(hashes({ contract_id: 1 }, {})[1], base)
  assert.equal(hashes({}, { signatures: [{ twin_id: 42, signature: 'ff' }] })[1], base)
  assert.notEqual(hashes({ expiration: 1 }, {})[1], base)
  assert.notEqual(hashes({}, { signature_style: 'polka-wallet' })[1], base)
})

function hashes(more: object, requirement: object): [string, string] {
  const { signature_requirement, ...rest } = JSON.parse(wireDeployment([]))
  const deployment = trusted([], {
    ...rest,
    ...more,
    signature_requirement: { ...signature_requirement, ...requirement },
  })
  return [challengeOf(deployment), hex(hashOf(deployment))]
}

test('zos deployment: an address is hashed in canonical text and kept as submitted', () => {
  const data = { ip_range: '10.1.0.0/16', Subnet: '2001:0DB8::0001/64', more: 1 }
  const [workload] = trusted([wireWorkload('network', data)]).workloads
  assert.equal((workload as WorkloadOf<'network'>).data.subnet, '2001:db8::1/64')
  assert.equal(workload?.rawData, JSON.stringify(data))
})

test('zos deployment: what the envelope cannot be', () => {
  const decode = (text: string) => {
    const refused = refusal(() => readDeployment(text))
    assert.equal(refused?.kind, 'decode', text)
    return refused?.message
  }
  const of = (more: object) => decode(wireDeployment([], more))
  assert.equal(decode(''), 'unexpected end of JSON input')
  assert.equal(
    decode('[]'),
    'json: cannot unmarshal array into Go value of type gridtypes.Deployment',
  )
  assert.equal(
    of({ version: '0' }),
    'json: cannot unmarshal string into Go struct field Deployment.version of type uint32',
  )
  assert.equal(
    of({ contract_id: -1 }),
    'json: cannot unmarshal number -1 into Go struct field Deployment.contract_id of type uint64',
  )
  assert.equal(
    of({ workloads: [{ name: 5 }] }),
    'json: cannot unmarshal number into Go struct field Workload.workloads.name of type gridtypes.Name',
  )
  assert.equal(
    of({ signature_requirement: { requests: [{ weight: 0.5 }] } }),
    'json: cannot unmarshal number 0.5 into Go struct field SignatureRequest.signature_requirement.requests.weight of type uint',
  )
  assert.match(of({ expiration: 'soon' }) ?? '', /^unknown timestamp format/)
  assert.equal(readDeployment('null').version, 0)
  assert.deepEqual(readDeployment('{"workloads":null,"signature_requirement":null}').workloads, [])
})

test('zos deployment: data that is absent, null or of another type', () => {
  const of = (type: string, data: unknown) => check(wireWorkload(type, data))
  const load = "failed to load data into object of type '*zos."
  assert.equal(of('zmount', undefined), `${load}ZMount': unexpected end of JSON input`)
  assert.equal(of('zmachine-light', null), `${load}ZMachineLight': null`)
  assert.equal(
    of('zdb', 5),
    `${load}ZDB': json: cannot unmarshal number into Go value of type zos.ZDB`,
  )
  assert.equal(
    of('gateway-fqdn-proxy', { backends: [1] }),
    `${load}GatewayFQDNProxy': json: cannot unmarshal number into Go struct field GatewayFQDNProxy.backends of type zos.Backend`,
  )
  assert.equal(of('Zmount', { size: 1 }), "invalid reservation type 'Zmount'")
})

test('zos deployment: names', () => {
  const named = (name: string) => check(wireWorkload('zmount', { size: 1 }, { name }))
  assert.equal(named('a'.repeat(36)), undefined)
  assert.equal(named('A_9'), undefined)
  assert.equal(named(''), "name '' is invalid: name cannot be empty")
  const long = 'a'.repeat(37)
  assert.equal(named(long), `name '${long}' is invalid: name cannot exceed 36 characters`)
  const wide = 'ö'.repeat(19)
  assert.equal(named(wide), `name '${wide}' is invalid: name cannot exceed 36 characters`)
  assert.equal(named('a\n'), "name 'a\n' is invalid: unsupported character in workload name")
  assert.equal(named('ygg'), "name 'ygg' is invalid: invalid name 'ygg' is reserved")
})

test('zos deployment: rules of machines', () => {
  const network = (more: object) => ({
    network: { interfaces: [{ network: 'net1', ip: '10.1.2.2' }], ...more },
  })
  const of = (data: object, type = 'zmachine') =>
    check(wireWorkload(type, { ...VALID_DATA.zmachine, ...data }))
  const two = [
    { network: 'a', ip: '10.1.2.2' },
    { network: 'b', ip: '10.1.2.3' },
  ]
  for (const type of ['zmachine', 'zmachine-light']) {
    assert.equal(of({}, type), undefined)
    assert.match(of(network({ interfaces: two }), type) ?? '', /^only one network private/)
    const noIp = { interfaces: [{ network: 'a', ip: '' }] }
    assert.equal(of(network(noIp), type), 'invalid IP')
    for (const reserved of ['ygg', 'pub', 'mycelium']) {
      const on = { interfaces: [{ network: reserved, ip: '10.1.2.2' }] }
      assert.equal(of(network(on), type), `'${reserved}' is reserved network name`)
    }
    const seed = { mycelium: { network: 'a', hex_seed: '0102' } }
    assert.equal(of(network(seed), type), 'invalid mycelium seed length expected 6 bytes')
  }
  assert.equal(of(network({ public_ip: 'no' })), 'public ip is not found')
  assert.equal(of(network({ public_ip: 'w' })), "workload of name 'w' is not a public ip")
  assert.equal(of(network({ public_ip: 'w' }), 'zmachine-light'), undefined)
  const using = wireWorkload('zmachine', {
    ...VALID_DATA.zmachine,
    ...network({ public_ip: 'ip' }),
  })
  const ip = (type: string) => wireWorkload(type, { v6: true }, { name: 'ip' })
  assert.equal(check(using, ip('ip')), undefined)
  assert.equal(check(using, ip('ipv4')), undefined)
  const again = { ...using, name: 'w2' }
  assert.equal(check(ip('ip'), using, again), 'public ip is assigned to multiple vms')
})

test('zos deployment: the size of a root disk', () => {
  const machine = (cpu: number, memory: number, size = 0) =>
    (
      trusted([
        wireWorkload('zmachine', {
          ...VALID_DATA.zmachine,
          compute_capacity: { cpu, memory },
          size,
        }),
      ]).workloads[0] as WorkloadOf<'zmachine'>
    ).data
  const [small, large] = [500n << 20n, 2n << 30n]
  assert.equal(rootSizeOf(machine(1, 2 ** 33 - 1)), small)
  assert.equal(rootSizeOf(machine(1, 2 ** 33)), large)
  assert.equal(rootSizeOf(machine(8, 2 ** 30)), large)
  assert.equal(rootSizeOf(machine(1, 2 ** 30, 2 ** 40)), 1n << 40n)
})

test('zos deployment: what a log may be sent to', () => {
  const to = (output: string) => {
    const machine = wireWorkload('zmachine', VALID_DATA.zmachine, { name: 'm' })
    return check(machine, wireWorkload('zlogs', { zmachine: 'm', output }))
  }
  for (const scheme of ['redis', 'ws', 'wss', 'WSS']) {
    assert.equal(to(`${scheme}://user:secret@h:1/x?y#z`), undefined)
  }
  assert.equal(to('https://h'), "invalid output schema 'https' not supported")
  assert.equal(to('h'), "invalid output schema '' not supported")
  const broken = to('redis://user:secret@[::1/x') ?? ''
  assert.equal(broken, "invalid url supplied in output: missing ']' in host")
})

test('zos deployment: the shared backends of gateways', (t) => {
  interface Cases {
    readonly valid: { backend: string; tls_passthrough: boolean; valid: boolean }[]
    readonly address: { backend: string; address: string | null }[]
  }
  const cases = zosVectors<Cases>(t, 'backends')
  for (const { backend, tls_passthrough, valid } of cases?.valid ?? []) {
    const wrong = checkBackend(backend, tls_passthrough)
    assert.equal(wrong === undefined, valid, `${backend}: ${wrong}`)
  }
  for (const { backend, address } of cases?.address ?? []) {
    assert.equal(backendAddress(backend), address ?? undefined, backend)
  }
})

test('zos deployment: backends of gateways, and where they are dialled', () => {
  const cases: [backend: string, passthrough: boolean, wrong: string | undefined][] = [
    ['10.1.2.3:65535', true, undefined],
    ['127.0.0.1:80', true, undefined],
    ['[::1]:80', true, undefined],
    ['http://[2001:db8::1]:8080/path?q#f', false, undefined],
    ['http://u:p@10.1.2.3', false, undefined],
    ['http://[::1]', false, 'invalid ip address in backend: ::1'],
    ['http://[::ffff:127.1.2.3]:1', false, 'invalid ip address in backend: ::ffff:127.1.2.3'],
    ['http://', false, 'invalid ip address in backend: '],
    ['http:10.1.2.3', false, 'invalid ip address in backend: '],
    ['HTTPS://10.1.2.3', false, 'scheme expected to be http'],
    ['//10.1.2.3', false, 'scheme expected to be http'],
    [
      'http://10.1.2.3:x',
      false,
      'failed to parse backend with error: parse "http://10.1.2.3:x": invalid port ":x" after host',
    ],
    [
      '10.1.2.3:80',
      false,
      'failed to parse backend with error: parse "10.1.2.3:80": first path segment in URL cannot contain colon',
    ],
    [
      '10.1.2.3:+1',
      true,
      'failed to parse backend 10.1.2.3:+1 with error: invalid port in backend: +1',
    ],
    [
      '[::1]80',
      true,
      'failed to parse backend [::1]80 with error: failed to parse backend [::1]80 with error: address [::1]80: missing port in address',
    ],
  ]
  for (const [backend, passthrough, wrong] of cases) {
    assert.equal(checkBackend(backend, passthrough), wrong, backend)
  }
  assert.equal(backendAddress('http://10.1.2.3:8080/x'), '10.1.2.3:8080')
  assert.equal(backendAddress('http://[2001:db8::1]'), '[2001:db8::1]:80')
  assert.equal(backendAddress('http://10.1.2.3:'), '10.1.2.3:80')
  assert.equal(backendAddress('x'), undefined)
  fc.assert(
    fc.property(fc.webUrl({ validSchemes: ['http', 'wss'], withQueryParameters: true }), (text) => {
      const { protocol, host } = new URL(text)
      const url = parseGoUrl(text)
      assert.equal(`${url.scheme}:`, protocol)
      assert.equal(url.host.toLowerCase(), host)
    }),
  )
})

test('zos deployment: ids of networks and devices', (t) => {
  assert.equal(networkId(42, 'wedtest'), 'J39dcFYmFmu6k')
  assert.equal(deviceName('42-8955-testvm', 'pub'), 'Vso7NXxqL5i33')
  interface Cases {
    readonly network_id: { twin: number; name: string; id: string }[]
    readonly device_name: { workload_id: string; suffix: string; id: string }[]
  }
  const cases = zosVectors<Cases>(t, 'ids')
  for (const { twin, name, id } of cases?.network_id ?? []) assert.equal(networkId(twin, name), id)
  for (const { workload_id, suffix, id } of cases?.device_name ?? []) {
    assert.equal(deviceName(workload_id, suffix), id)
  }
})

test('zos deployment: replies have the shapes of the shared history', (t) => {
  const steps = zosVectors<{ changes: WireEntry[]; get: { workloads: WireEntry[] } }[]>(
    t,
    'changes',
  )
  for (const { changes, get } of steps ?? []) {
    const deployment = trusted([], get)
    const results = get.workloads.map(({ result }) => resultOf(result))
    assert.equal(printJson(deploymentWire({ deployment, results })), JSON.stringify(get))
    for (const entry of changes ?? []) {
      const workload = readWorkload(JSON.stringify(entry))
      const printed = printJson(workloadWire(workload, resultOf(entry.result)))
      assert.equal(printed, JSON.stringify(entry))
    }
  }
})

interface WireEntry {
  readonly result: Omit<Result, 'data'> & { readonly data: unknown }
}
const resultOf = ({ data, ...rest }: WireEntry['result']): Result => ({
  ...rest,
  data: JSON.stringify(data),
})

test('zos deployment: data comes back as submitted, but for white space', () => {
  const data = '{ "Size" : 10, "unknown": [1, 2.50e3, "a  b"], "9": 1, "1": 2, "size": 11 }'
  const text = `{"version":3,"name":"w","type":"zmount","data":${data},"result":5}`
  const workload = readWorkload(text) as WorkloadOf<'zmount'>
  assert.equal(workload.data.size, 11n)
  const raw = '{"Size":10,"unknown":[1,2.50e3,"a  b"],"9":1,"1":2,"size":11}'
  assert.equal(
    printJson(workloadWire(workload)),
    `{"version":3,"name":"w","type":"zmount","data":${raw},"metadata":"","description":""}`,
  )
  assert.equal(refusal(() => readWorkload('{"type":"zdb"}'))?.kind, 'invalid')
  assert.equal(refusal(() => readWorkload('{'))?.kind, 'decode')
})

test('zos deployment: printing and reading give the same deployment', () => {
  const numbers = (text: string) => text.replaceAll('"#', '').replaceAll('#"', '')
  const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((value) => `#${value}#`)
  const u32 = fc.nat(0xffff_ffff)
  const deployment = fc.record({
    version: u32,
    twin_id: u32,
    contract_id: u64,
    metadata: fc.string({ unit: 'grapheme' }),
    description: fc.string({ unit: 'binary' }),
    expiration: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((value) => `#${value}#`),
    signature_requirement: fc.record({
      requests: fc.array(fc.record({ twin_id: u32, required: fc.boolean(), weight: u64 })),
      weight_required: u64,
      signatures: fc.array(
        fc.record({ twin_id: u32, signature: fc.string(), signature_type: fc.string() }),
      ),
      signature_style: fc.string(),
    }),
  })
  fc.assert(
    fc.property(deployment, (more) => {
      const { workloads } = JSON.parse(everyType())
      const text = numbers(JSON.stringify({ ...more, workloads }))
      // Texts that look like the marks of numbers are not what this is about.
      fc.pre(
        !JSON.stringify([
          more.metadata,
          more.description,
          more.signature_requirement.signatures,
          more.signature_requirement.signature_style,
        ]).includes('#'),
      )
      const read = readDeployment(text)
      const printed = printJson(deploymentWire({ deployment: read, results: [] }))
      const again = readDeployment(printed)
      assert.deepEqual(again, read)
      assert.equal(hex(hashOf(again)), hex(hashOf(read)))
    }),
  )
})

test('zos deployment: the order and the case of members do not change the hash', () => {
  const value = JSON.parse(everyType())
  const expected = hex(hashOf(readDeployment(everyType())))
  fc.assert(
    fc.property(fc.infiniteStream(fc.nat(99)), (stream) => {
      const next = () => Number(stream.next().value)
      const text = JSON.stringify(shuffled(value, next))
      assert.equal(hex(hashOf(readDeployment(text))), expected)
    }),
  )
})

/** The same value with the members of its objects in another order and case. */
function shuffled(value: unknown, next: () => number): unknown {
  if (Array.isArray(value)) return value.map((item) => shuffled(item, next))
  if (typeof value !== 'object' || value === null) return value
  const members = Object.entries(value).map(([name, member]) => {
    const isEnv = name === 'A' || name === 'B'
    const turned = next() % 3 === 0 && !isEnv ? name.toUpperCase() : name
    return { turned, member: shuffled(member, next), rank: next() }
  })
  members.sort((a, b) => a.rank - b.rank)
  return Object.fromEntries(members.map(({ turned, member }) => [turned, member]))
}

test('zos deployment: texts are ordered by their bytes', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (a, b) => {
      assert.equal(Math.sign(compareUtf8(a, b)), Buffer.compare(Buffer.from(a), Buffer.from(b)))
    }),
  )
  assert.ok(compareUtf8('\uffff', '🚀') < 0)
})

test('zos deployment: many workloads that refer to each other do not take long to judge', () => {
  const ips = Array.from({ length: 900 }, (_, i) =>
    wireWorkload('ip', { v4: true }, { name: `ip${i}` }),
  )
  const machines = ips.map(({ name }, i) =>
    wireWorkload(
      'zmachine',
      {
        ...VALID_DATA.zmachine,
        network: { public_ip: name, interfaces: [{ network: 'n', ip: '10.1.2.2' }] },
      },
      { name: `m${i}` },
    ),
  )
  const deployment: Deployment = readDeployment(wireDeployment([...machines, ...ips]))
  assert.equal(deployment.workloads.length, 1800)
})
