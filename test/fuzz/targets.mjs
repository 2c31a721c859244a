// What is fuzzed: each parser with inputs to start from and what must hold for any input.
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Files by name in folders of fixtures, and in those of the shared vectors where they are. */
function files(name, ...folders) {
  return () =>
    folders.flatMap((folder) => {
      try {
        return readdirSync(folder)
          .filter((file) => name.test(file))
          .map((file) => readFileSync(join(folder, file)))
          .filter((bytes) => bytes.length <= 65_536)
      } catch {
        return []
      }
    })
}

const VECTORS = '../shared/vectors'
const TDX = ['test/fixtures/tdx', `${VECTORS}/tdx/real`, `${VECTORS}/tdx/synthetic/quotes`]
const NITRO = [
  'test/fixtures/nitro',
  `${VECTORS}/nitro/real`,
  `${VECTORS}/nitro/synthetic/docs`,
  `${VECTORS}/dstack/nsm`,
]

const text = (input) => Buffer.from(input).toString('utf8')

export const targets = [
  {
    name: 'quote',
    entry: 'src/attest/tdx/quote.ts',
    seeds: files(/\.(dat|bin)$/, ...TDX),
    check: ({ parseQuote }, input) => void parseQuote(input),
  },
  {
    name: 'quote-verify',
    entry: 'src/attest/tdx/verify.ts',
    seeds: files(/\.(dat|bin)$/, ...TDX),
    // Without collateral nothing may be accepted, and what is wrong with a quote is a verdict.
    check: ({ verifyQuote }, input) => expect(verifyQuote(input).accepted === false),
  },
  {
    name: 'tdreport',
    entry: 'src/attest/tdx/tdreport.ts',
    seeds: files(/tdreport/, ...TDX),
    check: ({ parseTdReport }, input) => void parseTdReport(input),
  },
  {
    name: 'collateral',
    entry: 'src/attest/tdx/collateral.ts',
    seeds: files(/collateral.*\.json$/, ...TDX, `${VECTORS}/tdx/synthetic/collateral`),
    maxBytes: 65_536,
    largest: 'collateral',
    check: ({ parseCollateral }, input) => void parseCollateral(text(input)),
  },
  {
    name: 'cbor',
    entry: 'src/attest/nitro/cbor.ts',
    seeds: files(/\.cbor$/, ...NITRO),
    largest: 'cbor',
    check: ({ decodeCbor }, input) => void decodeCbor(input, 'input'),
  },
  {
    name: 'nitro-document',
    entry: 'src/attest/nitro/document.ts',
    seeds: files(/\.(cbor|bin)$/, ...NITRO),
    largest: 'cbor',
    check: ({ parseDocument }, input) => void parseDocument(input),
  },
  {
    name: 'nitro-verify',
    entry: 'src/attest/nitro/verify.ts',
    seeds: files(/\.(cbor|bin)$/, ...NITRO),
    // All the seeds expired years ago.
    check: ({ verifyDocument }, input) => expect(verifyDocument(input).accepted === false),
  },
  {
    name: 'nsm-response',
    entry: 'src/device/nsm-messages.ts',
    seeds: () =>
      JSON.parse(readFileSync('test/fixtures/nitro/nsm-transcript.json', 'utf8')).map(
        ({ response }) => Buffer.from(response, 'hex'),
      ),
    check: ({ describeNsm, getRandom, describePcr, lockPcr, attestation }, input) => {
      for (const call of [
        describeNsm(),
        getRandom(),
        describePcr(1),
        lockPcr(1),
        attestation({}),
      ]) {
        try {
          call.readResponse(input)
        } catch (error) {
          if (error.name !== 'NsmError') throw error
        }
      }
    },
  },
  {
    name: 'certificate',
    entry: 'src/x509/certificate.ts',
    seeds: files(/\.der$/, ...TDX, `${VECTORS}/tdx/synthetic`),
    check: ({ parseCertificate }, input) => void parseCertificate(input),
  },
  {
    name: 'crl',
    entry: 'src/x509/crl.ts',
    seeds: files(/crl\.der$/, ...TDX, `${VECTORS}/tdx/synthetic/collateral`),
    largest: 'crl',
    check: ({ parseCrl }, input) => void parseCrl(input),
  },
  {
    name: 'pem',
    entry: 'src/x509/pem.ts',
    seeds: files(/\.pem$/, `${VECTORS}/dstack/ratls`, `${VECTORS}/nitro/real`),
    largest: 'pem',
    check: ({ parsePemChain }, input) => void parsePemChain(text(input)),
  },
  {
    name: 'ccel',
    entry: 'src/attest/ccel.ts',
    seeds: files(
      /ccel.*\.(dat|bin)$/,
      'test/fixtures/eventlog',
      ...TDX,
      `${VECTORS}/dstack/eventlog`,
    ),
    maxBytes: 65_536,
    largest: 'ccel',
    check: ({ ccelEntries }, input) => void ccelEntries(input),
  },
  {
    name: 'container',
    entry: 'src/attest/container.ts',
    seeds: files(/attestation.*\.bin$/, `${VECTORS}/dstack/simulator`, `${VECTORS}/dstack/nsm`),
    largest: 'container',
    timed: ({ readContainer }, input) => void readContainer(input),
    check: ({ readContainer, writeContainer }, input) => {
      const written = writeContainer(readContainer(input))
      expect(Buffer.compare(written, writeContainer(readContainer(written))) === 0)
    },
  },
  {
    name: 'ra-tls',
    entry: 'test/fuzz/ra-tls.ts',
    seeds: () =>
      files(/\.pem$/, `${VECTORS}/dstack/ratls`)()
        .flatMap((pem) => text(pem).match(/(?<=CERTIFICATE-----)[^-]+/g) ?? [])
        .map((body) => Buffer.from(body, 'base64')),
    check: ({ readDer }, input) => void readDer(input),
  },
  {
    name: 'ra-tls-app',
    entry: 'test/fuzz/ra-tls.ts',
    seeds: () => [Buffer.from('9592a10192a10292a10392a10492a105', 'hex')],
    check: ({ readCertifiedApp }, input) => void readCertifiedApp(input),
  },
  {
    name: 'signing-request',
    entry: 'plugins/kms/server/signing-request.ts',
    seeds: () =>
      files(/attestation.*\.bin$/, `${VECTORS}/dstack/simulator`, `${VECTORS}/dstack/nsm`)()
        .concat(Buffer.alloc(0))
        .map((container) => Buffer.concat([signingRequestHead(), container])),
    check: ({ readSigningRequest }, input) => void readSigningRequest(input, 2),
  },
  {
    name: 'event-log',
    entry: 'src/attest/event-log.ts',
    seeds: () => [
      Buffer.from(
        '[{"imr":3,"event_type":134217729,"digest":"","event":"a","event_payload":"00"}]',
      ),
    ],
    largest: 'eventLog',
    check: ({ parseEventLog }, input) => void parseEventLog(text(input)),
  },
  {
    name: 'exported-log',
    entry: 'src/attest/exported-log.ts',
    seeds: () => [
      Buffer.from(
        '{"seq":1,"time":"2026-01-02T03:04:05.678Z","source":"a","level":"info","message":"m","hash":"' +
          `${'0'.repeat(64)}"}\n`,
      ),
    ],
    check: ({ parseExportedLog }, input) => void parseExportedLog(text(input)),
  },
  {
    name: 'zos-deployment',
    entry: 'test/fuzz/zos-deployment.ts',
    seeds: zosDeployments,
    check: ({ readTwice }, input) =>
      refusing('ZosError', () => {
        const { first, second } = readTwice(text(input))
        expect(first === second)
      }),
  },
  {
    name: 'zos-redact',
    entry: 'plugins/zos/commands/redact.ts',
    seeds: () =>
      [
        '{"password":"p","Key":[1],"env":{"A":"b"},"output":"redis://u:p@h/a?b#c d://e"}',
        '{"metadata":"{\\"private_key\\":\\"k\\"}"}',
        'see ws://u:p@h/x',
      ].map((line) => Buffer.from(line)),
    check: ({ redactText }, input) => {
      const given = text(input)
      // Whoever writes `{"` first means JSON, and gets JSON or nothing.
      if (/^\s*\{\s*"/.test(given)) {
        const safe = redactText(given)
        expect(safe === '***' || typeof JSON.parse(safe) === 'object')
      } else redactText(given)
    },
  },
  {
    name: 'zos-network',
    entry: 'plugins/zos/drivers/network-host/plan.ts',
    seeds: () => [
      Buffer.from(
        '10.1.2.0/24 10.1.0.0/16 wEx/O5biBR13sUweBK3lkDF1IWLxuW16lHJUdQ8IXms= [2001:db8::1]:51820 10.1.3.0/24',
      ),
      Buffer.from(
        '10.1.2.0/24 x z6IUbrR7UABmpEYog2XbDny8hNR0vuFVvXUv/HYUPjo= host.example:1 fd00::/64',
      ),
    ],
    check: ({ networkPlan }, input) =>
      refusing('DriverError', () => {
        const [subnet = '', ipRange = '', key = '', endpoint = '', ...allowedIps] =
          text(input).split(' ')
        const peers = [{ subnet, wireguardPublicKey: key, allowedIps, endpoint }]
        const data = { subnet, ipRange, wireguardPrivateKey: key, wireguardListenPort: 1, peers }
        const plan = networkPlan('1234567890abc', data, true)
        // Nothing that a configuration file or a command line would read as more than a value.
        const values = [
          plan.gateway,
          ...plan.wireguard.routes,
          ...plan.wireguard.peers[0].allowedIps,
        ]
        for (const value of values) expect(/^[0-9a-f.:]+\/\d+$/i.test(value))
        expect(/^[\w.:[\]-]*$/.test(plan.wireguard.peers[0].endpoint))
      }),
  },
  {
    name: 'zos-image',
    entry: 'plugins/zos/drivers/cloud-hypervisor/root-image.ts',
    seeds: () =>
      [
        'file:///a/b.raw',
        'https://user:pw@host.example/x.img?y#z',
        'docker://a',
        'file:///%2e%2e/x',
      ].map((line) => Buffer.from(line)),
    check: ({ rootImageOf }, input) =>
      refusing('DriverError', () => {
        const image = rootImageOf(text(input))
        expect(image.kind === 'file' ? !image.path.includes('\0') : image.url.protocol === 'https:')
      }),
  },
  {
    name: 'zos-dmi',
    entry: 'plugins/zos/node/dmi.ts',
    seeds: () => [
      Buffer.from(
        '# a\n\nHandle 0x1, DMI type 1, 2 bytes\nT\n\tA: b\n\tC:\n\t\td\n\t\te\nU\n\tf\n\n',
      ),
      ...files(/\.txt$/, `${VECTORS}/zos/dmi`)(),
    ],
    maxBytes: 65_536,
    // Where it is not strict it takes anything.
    check: ({ parseDmi }, input) => {
      const { sections } = parseDmi(text(input))
      refusing('ZosError', () => {
        const strict = parseDmi(text(input), { strict: true })
        expect(JSON.stringify(strict.sections) === JSON.stringify(sections))
      })
    },
  },
  {
    name: 'zos-chain',
    entry: 'plugins/zos/registry/chain/records.ts',
    seeds: zosChainRecords,
    check: (readers, input) => {
      const { decodeTwin, decodeContract, decodeContractIds, decodeFarmTwin, decodeNode } = readers
      refusing('RegistryError', () => decodeTwin(input, 42))
      refusing('RegistryError', () => decodeContract(input, 8955n))
      refusing('RegistryError', () => decodeContractIds(input))
      refusing('RegistryError', () => decodeFarmTwin(input, 1))
      refusing('RegistryError', () => decodeNode(input, 11))
    },
  },
  {
    name: 'zos-registry',
    entry: 'plugins/zos/registry/document.ts',
    seeds: () => [
      Buffer.from(
        '{"node":{"id":11,"twin_id":17,"farm_id":1},"farm":{"id":1,"twin_id":1},"twins":[{"id":42,' +
          `"key_type":"ed25519","public_key":"${'0a'.repeat(32)}","relay":"a_b","pk":null}],` +
          '"contracts":[{"contract_id":8955,"twin_id":42,"node_id":11,"type":"node",' +
          `"deployment_hash":"${'0a'.repeat(16)}","state":"created",` +
          '"public_ips":[{"ip":"10.0.0.1/24","gateway":"10.0.0.2"}]}],' +
          '"rent_contract":null,"admin_twins":[]}',
      ),
    ],
    check: ({ readRegistryDocument }, input) =>
      refusing('RegistryError', () => readRegistryDocument(text(input))),
  },
  {
    name: 'zos-token',
    entry: 'plugins/zos/auth/token.ts',
    seeds: () => {
      const parts = [
        '{"alg":"EdDSA"}',
        '{"iss":"42","aud":["zos"],"exp":1700000000,"nbf":1}',
        'sig',
      ]
      const encoded = parts.map((part) => Buffer.from(part).toString('base64url'))
      return [Buffer.from(`Bearer ${encoded.join('.')}`)]
    },
    check: ({ readToken }, input) => refusing('ZosError', () => readToken(text(input))),
  },
  {
    name: 'zos-challenge',
    entry: 'plugins/zos/auth/challenge.ts',
    seeds: () => {
      const parts = [Buffer.from('1700000000:42'), Buffer.alloc(64)]
      return [Buffer.from(parts.map((part) => part.toString('base64')).join(':'))]
    },
    check: ({ readChallenge }, input) => refusing('ZosError', () => readChallenge(text(input))),
  },
  {
    name: 'zos-zlogs-output',
    entry: 'plugins/zos/drivers/zlogs/output.ts',
    seeds: () =>
      [
        'redis://user:pass@10.1.2.3:6379/logs',
        'wss://logs.example/in?key=1#x',
        'ws://[::ffff:7f00:1]/',
      ].map((url) => Buffer.from(url)),
    check: ({ readOutput }, input) =>
      refusing('DriverError', () => expect(readOutput(text(input), false).host !== '')),
  },
  {
    name: 'shell-words',
    entry: 'src/shell-words.ts',
    seeds: () => [Buffer.from(`/bin/sh -c 'echo "a b"' x\\ y`)],
    check: ({ shellWords }, input) => void shellWords(text(input)),
  },
  {
    name: 'client-hello',
    entry: 'plugins/zos/drivers/gateway/client-hello.ts',
    seeds: () => [
      // TLS 1.3 for "a.example", and the beginning of one in two records.
      Buffer.from(
        `16030100410100003d0303${'00'.repeat(32)}0000021301010000100000000e000c000009612e6578616d706c65`,
        'hex',
      ),
      Buffer.from(`160301000101160301000300004100000000`, 'hex'),
    ],
    check: ({ readClientHello }, input) => {
      const { state, serverName } = readClientHello(input)
      expect(['more', 'hello', 'invalid'].includes(state))
      expect(serverName === undefined || /^[a-z0-9_-][a-z0-9_.-]*$/.test(serverName))
    },
  },
  {
    name: 'zos-envelope',
    entry: 'plugins/zos/rmb/envelope.ts',
    seeds: zosEnvelopes,
    check: ({ decodeEnvelope, encodeEnvelope }, input) =>
      refusing('ProtobufError', () => {
        const written = encodeEnvelope(decodeEnvelope(input))
        expect(Buffer.compare(written, encodeEnvelope(decodeEnvelope(written))) === 0)
      }),
  },
  {
    name: 'zos-journal',
    entry: 'test/fuzz/zos-journal.ts',
    seeds: zosJournals,
    // Damage is told and never thrown, and what was read can be written and read again.
    check: ({ readAgain }, input) => expect(readAgain(input)),
  },
  {
    name: 'zos-bus-request',
    entry: 'plugins/zos/bus/message.ts',
    seeds: () => [
      Buffer.from(
        '{"ver":1,"ref":"a","src":"42:s","cmd":"zos.system.version","exp":300,"dat":"e30=",' +
          '"tag":null,"ret":"msgbus.system.reply","shm":"application/json","now":1700000000}',
      ),
    ],
    check: ({ readRequest, writeReply }, input) => {
      const request = readRequest(text(input), 1_700_000_000_000)
      expect(['call', 'refused', 'dropped'].includes(request.kind))
      if (request.kind === 'dropped') return
      expect(request.expires > 1_700_000_000_000 && request.expires <= 1_700_001_800_000)
      const reply = JSON.parse(writeReply(request.head, { ok: true, text: 'null' }, 0))
      expect(reply.dst === request.head.source && reply.ref === request.head.reference)
    },
  },
  {
    name: 'zos-zdb-namespace',
    entry: 'plugins/zos/drivers/zdb/namespace-info.ts',
    seeds: () => [
      Buffer.from(
        '# namespace\nname: default\nentries: 0\npublic: yes\npassword: no\ndata_size_bytes: 0\n' +
          'data_limits_bytes: 0\nmode: userkey\nlocked: no\ndata_disk_freespace_bytes: 5\n',
      ),
    ],
    check: ({ readNamespaceInfo }, input) => {
      const info = readNamespaceInfo(text(input))
      expect(info === undefined || (info.dataSize >= 0n && info.dataLimit >= 0n))
    },
  },
]

/** Envelopes of the shared vectors, and one that is always here. */
function zosEnvelopes() {
  const shared = files(/^rmb\.json$/, `${VECTORS}/zos`)().flatMap((file) =>
    Object.values(JSON.parse(file).envelopes),
  )
  const own = '0a016118012002' + '2a05080312017332' + '0308ac02620708ff0112026e6f6a046e756c6c'
  return [own, ...shared.map((each) => each.protobuf_hex)].map((each) => Buffer.from(each, 'hex'))
}

/** Deployments of the shared vectors, and one that is always here. */
function zosJournals() {
  const record = (body) => {
    const sum = createHash('sha256').update(body).digest('hex').slice(0, 16)
    return `${body},"sum":"${sum}"}\n`
  }
  const workload = (size) =>
    JSON.stringify(
      `{"version":0,"name":"a","type":"zmount","data":{"size":${size}},"metadata":"","description":""}`,
    )
  const header =
    '{"version":0,"twinId":42,"contractId":"10","metadata":"","description":"","expiration":"0",' +
    '"signatureRequirement":{"requests":[],"weightRequired":"0","signatures":[],"signatureStyle":""}}'
  const first = `{"record":"deploy","at":1,"header":${header},"contract":{},"workloads":[${workload(1)}]`
  const result =
    '{"record":"result","name":"a","of":"update","result":{"created":1,"state":"ok","message":"",' +
    `"data":"null"},"retry":false,"workload":${workload(2)}`
  const want = '{"record":"want","want":{"state":"paused"}'
  return [Buffer.from([first, result, want].map(record).join(''))]
}

function zosDeployments() {
  const own =
    '{"version":0,"twin_id":1,"workloads":[{"name":"a","type":"zmount","data":{"size":1}}]}'
  const shared = ['deployments', 'validation'].flatMap((name) =>
    files(new RegExp(`^${name}\\.json$`), `${VECTORS}/zos`)().flatMap((file) => JSON.parse(file)),
  )
  return [own, ...shared.map((each) => each.deployment_json)].map((each) => Buffer.from(each))
}

/** A contract, a twin and a list of ids as the chain of the grid keeps them. */
function zosChainRecords() {
  const contract =
    '0400000000fb220000000000002a000000000b000000' +
    `${'30'.repeat(32)}0801020100000004` +
    `2c${Buffer.from('10.0.0.1/24').toString('hex')}20${Buffer.from('10.0.0.2').toString('hex')}` +
    'fb2200000000000000'
  const twin = `2a000000${'0a'.repeat(32)}010c615f620000`
  return [contract, twin, '08fb220000000000000100000000000000'].map((record) =>
    Buffer.from(record, 'hex'),
  )
}

/** Does the work; an error of that name is an answer too. */
function refusing(name, work) {
  try {
    work()
  } catch (error) {
    if (error?.name !== name) throw error
  }
}

/** All of a request for a certificate but the container, for the generator of P-256. */
function signingRequestHead() {
  const spki =
    '3059301306072a8648ce3d020106082a8648ce3d03010703420004' +
    '6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296' +
    '4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5'
  return Buffer.concat([
    Buffer.of(17 << 2),
    Buffer.from('please sign cert:'),
    Buffer.from(`6d01${spki}`, 'hex'),
    // No organization, subject "a", one name, usages, no times.
    Buffer.from('00' + '0461' + '04' + '0462' + '01010101' + '0000', 'hex'),
  ])
}

/** A rule of a target that any input has to keep. */
function expect(kept) {
  if (!kept) throw new Error('a rule of this target does not hold')
}
