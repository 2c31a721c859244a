import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseHostConfig } from '../../plugins/supervisor/host/host-config-input.ts'
import { HostError } from '../../plugins/supervisor/host/host-error.ts'
import { parseNoProxy, renderNoProxy } from '../../plugins/supervisor/host/proxy-files.ts'
import {
  canHold,
  isDnsAddress,
  parseRedsocks,
  renderRedsocks,
} from '../../plugins/supervisor/host/redsocks.ts'

/** As spec §20.3 has it, to the byte. */
const SAMPLE = `base {
\tlog_debug = off;
\tlog_info = on;
\tlog = stderr;
\tdaemon = off;
\tredirector = iptables;
}

redsocks {
\ttype = http-connect;
\tip = 10.0.0.9;
\tport = 8123;
\tlogin = "u";
\tpassword = "p";
\tlocal_ip = 127.0.0.1;
\tlocal_port = 12345;
}

dnsu2t {
\tremote_ip = 8.8.8.8;
\tremote_port = 53;
\tlocal_ip = 127.0.0.1;
\tlocal_port = 53;
}
`

const SETTINGS = {
  type: 'http-connect',
  ip: '10.0.0.9',
  port: 8123,
  login: 'u',
  password: 'p',
  dns: '8.8.8.8:53',
}

test('the file is written and read to the byte', () => {
  assert.equal(renderRedsocks(SETTINGS), SAMPLE)
  assert.deepEqual(parseRedsocks(SAMPLE), SETTINGS)
  const { login: _login, password: _password, dns: _dns, ...bare } = SETTINGS
  const text = renderRedsocks(bare)
  assert.doesNotMatch(text, /login|password|dnsu2t/)
  assert.equal(text, SAMPLE.slice(0, SAMPLE.indexOf('\ndnsu2t')).replace(/\t(login|pass).*\n/g, ''))
  assert.deepEqual(parseRedsocks(text), bare)
})

test('reading is tolerant', () => {
  for (const [text, expected] of [
    ['', {}],
    ['nonsense', {}],
    ['redsocks{type=socks5;ip=1.2.3.4}', { type: 'socks5', ip: '1.2.3.4' }],
    ['redsocks {\n type = socks5\n ip = 1.2.3.4\n}', { type: 'socks5', ip: '1.2.3.4' }],
    ['redsocks {\n\ttype = socks5;\n', { type: 'socks5' }],
    ['redsocks {\r\n\ttype = socks5;\r\n\tport = 80;\r\n}\r\n', { type: 'socks5', port: 80 }],
    ['redsocks {\n// a = b\n = x\ntype\nport = ;\nip = 1.2.3.4;\n}', { ip: '1.2.3.4' }],
    ['redsocks {\n ip = 1 2;\n type = a}b;\n}', { type: 'a' }],
    ['redsocks {\n login = "a;}b";\n password = c;\n}', { login: 'a;}b', password: 'c' }],
    ['redsocks {\n login = "a\n ip = 1.2.3.4;\n}', { ip: '1.2.3.4' }],
    ['redsocks {\n login = "";\n}', { login: '' }],
    ['redsocks {\n type = unheard-of;\n port = http;\n}', { type: 'unheard-of', port: 'http' }],
    ['redsocks { ip = 1.1.1.1; }\nredsocks { ip = 2.2.2.2; }', { ip: '1.1.1.1' }],
    ['other { ip = 9.9.9.9; }\nredsocks { ip = 1.1.1.1; }', { ip: '1.1.1.1' }],
    ['dnsu2t { remote_ip = 1.1.1.1; }', {}],
    ['dnsu2t { remote_ip = 1.1.1.1; remote_port = 0; }', {}],
    ['dnsu2t { remote_ip = 1.1.1.1; remote_port = 5353; }', { dns: '1.1.1.1:5353' }],
  ] as const) {
    assert.deepEqual(parseRedsocks(text), expected, text)
  }
})

const unquoted = fc.string({ minLength: 1, maxLength: 40 }).filter((text) => canHold('ip', text))
const quoted = fc.string({ maxLength: 40 }).filter((text) => canHold('login', text))
const settings = fc.record(
  {
    type: unquoted,
    ip: unquoted,
    port: fc.integer({ min: 1, max: 65_535 }),
    login: quoted,
    password: quoted,
    dns: fc
      .tuple(fc.ipV4(), fc.integer({ min: 1, max: 65_535 }))
      .map(([ip, port]) => `${ip}:${port}`),
  },
  { requiredKeys: [], noNullPrototype: true },
)

test('whatever the file can hold comes back as it was', () => {
  fc.assert(
    fc.property(settings, (some) => {
      assert.deepEqual(parseRedsocks(renderRedsocks(some)), some)
    }),
    { numRuns: 500 },
  )
})

test('whatever is read can be written, and says the same then', () => {
  const piece = fc.constantFrom(
    'redsocks {',
    'dnsu2t{',
    '}',
    '\n',
    ';',
    '"',
    ' = ',
    'login',
    'ip',
    'port',
    'type',
    'remote_ip',
    '1.2.3.4',
    '53',
    '\t',
  )
  const text = fc.oneof(
    fc.string(),
    fc.array(piece, { maxLength: 40 }).map((all) => all.join('')),
  )
  fc.assert(
    fc.property(text, (some) => {
      const read = parseRedsocks(some)
      assert.deepEqual(parseRedsocks(renderRedsocks(read)), read)
    }),
    { numRuns: 1000 },
  )
})

test('a long text is read in time that grows with its length', () => {
  for (const piece of ['a', ' ', '{', '}', '"', 'a{', 'a =', 'redsocks {\n', '; = ;', 'a\n']) {
    assert.ok(parseRedsocks(piece.repeat(512 * 1024)))
  }
})

test('no value can add a line, a block or an end of one', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (ip, login) => {
      if (!canHold('ip', ip) || !canHold('login', login)) return
      const text = renderRedsocks({ ip, login })
      assert.equal(
        text.split('\n').length,
        renderRedsocks({ ip: '1', login: '1' }).split('\n').length,
      )
    }),
  )
  for (const bad of ['', 'a b', 'a;b', 'a}', '{', '"', "'", 'a\n', '\0', 'x'.repeat(256)]) {
    assert.equal(canHold('ip', bad), false, JSON.stringify(bad))
  }
  for (const bad of ['"', 'a"b', 'a\nb', '\r', '\0', '\u007f', '\u0085', 'x'.repeat(256)]) {
    assert.equal(canHold('password', bad), false, JSON.stringify(bad))
  }
})

test('where DNS goes', () => {
  for (const good of ['8.8.8.8:53', 'dns.example:5353', 'a:1', 'a:65535']) {
    assert.equal(isDnsAddress(good), true, good)
  }
  for (const bad of ['', '8.8.8.8', ':53', 'a:0', 'a:65536', 'a:b', 'a b:53', 'a:53 ', '::1:53']) {
    assert.equal(isDnsAddress(bad), false, bad)
  }
})

test('no_proxy has a line for each address and no final line feed', () => {
  assert.equal(renderNoProxy(['10.0.0.0/8', 'a.example']), '10.0.0.0/8\na.example')
  assert.equal(renderNoProxy([]), undefined)
  assert.deepEqual(parseNoProxy('a\n\n  b \r\n'), ['a', 'b'])
  fc.assert(
    fc.property(fc.array(fc.stringMatching(/^[!-~]{1,30}$/), { minLength: 1 }), (all) => {
      assert.deepEqual(parseNoProxy(renderNoProxy(all) ?? ''), all)
    }),
  )
})

const network = (value: unknown) => ({ network: value })

test('the documented form of a PATCH is taken', () => {
  assert.deepEqual(
    parseHostConfig(
      network({
        proxy: { ...SETTINGS, noProxy: ['10.0.0.0/8'], local_ip: '1.2.3.4', local_port: 5 },
        hostname: 'my-host',
      }),
    ),
    {
      proxy: {
        clear: false,
        settings: { type: 'http-connect', ip: '10.0.0.9', port: 8123, login: 'u', password: 'p' },
        dns: '8.8.8.8:53',
        noProxy: ['10.0.0.0/8'],
      },
      hostname: 'my-host',
      force: false,
    },
  )
  assert.deepEqual(parseHostConfig(network({})), { force: false })
  assert.deepEqual(parseHostConfig(network({ hostname: '' })), { hostname: '', force: false })
  const proxy = (value: object) => parseHostConfig(network({ proxy: value })).proxy
  assert.deepEqual(proxy({}), { clear: true, settings: {} })
  assert.deepEqual(proxy({ local_ip: '1.2.3.4' }), { clear: false, settings: {} })
  assert.deepEqual(proxy({ noProxy: [] }), { clear: false, settings: {}, noProxy: [] })
  assert.equal(proxy({ dns: true })?.dns, '8.8.8.8:53')
  assert.equal(proxy({ dns: false })?.dns, false)
})

test('force counts at the top and in network', () => {
  for (const body of [{ network: {}, force: true }, { network: { force: 'on' } }]) {
    assert.equal(parseHostConfig(body).force, true)
  }
  for (const body of [{ network: {}, force: 'banana' }, { network: { force: 2 } }]) {
    assert.equal(parseHostConfig(body).force, false)
  }
})

test('the loose form is taken unless strictness is asked for', () => {
  for (const [proxy, settings] of [
    [{ type: 'carrier-pigeon' }, { type: 'carrier-pigeon' }],
    [{ port: '8123' }, { port: '8123' }],
    [{ login: 5 }, { login: '5' }],
  ] as const) {
    assert.deepEqual(parseHostConfig(network({ proxy })).proxy?.settings, settings)
    assert.throws(() => parseHostConfig(network({ proxy }), true), HostError)
  }
})

test('what can be neither is refused by its path, without its value', () => {
  for (const [body, path] of [
    [undefined, 'the body'],
    [null, 'the body'],
    ['text', 'the body'],
    [{}, 'network is missing'],
    [network(null), 'network'],
    [network('x'), 'network'],
    [network({ hostname: null }), 'network.hostname'],
    [network({ hostname: 5 }), 'network.hostname'],
    [network({ hostname: 'a\nb' }), 'network.hostname'],
    [network({ hostname: '-x' }), 'network.hostname'],
    [network({ hostname: 'x'.repeat(65) }), 'network.hostname'],
    [network({ proxy: null }), 'network.proxy'],
    [network({ proxy: 'x' }), 'network.proxy'],
    [network({ proxy: [] }), 'network.proxy'],
    [network({ proxy: { dns: 'nowhere' } }), 'network.proxy.dns'],
    [network({ proxy: { dns: 53 } }), 'network.proxy.dns'],
    [network({ proxy: { ip: {} } }), 'network.proxy.ip'],
    [network({ proxy: { ip: '' } }), 'network.proxy.ip'],
    [network({ proxy: { password: 'hush"hush' } }), 'network.proxy.password'],
    [network({ proxy: { noProxy: 'x' } }), 'network.proxy.noProxy'],
    [network({ proxy: { noProxy: ['a b'] } }), 'network.proxy.noProxy.0'],
    [network({ proxy: { noProxy: Array(1001).fill('a') } }), 'network.proxy.noProxy'],
  ] as const) {
    for (const strict of [false, true]) {
      assert.throws(
        () => parseHostConfig(body, strict),
        (error) => {
          assert.ok(error instanceof HostError)
          assert.deepEqual([error.status, error.code], [400, 'HOST_CONFIG_INVALID'])
          const prefix = 'Could not parse host config input to a valid format: '
          assert.ok(error.message.startsWith(`${prefix}${path}`), error.message)
          assert.doesNotMatch(error.message, /hush/)
          return true
        },
      )
    }
  }
})

test('any JSON is a PATCH or a typed refusal', () => {
  const value = fc.oneof(
    fc.jsonValue(),
    fc.record({ proxy: fc.jsonValue(), hostname: fc.string() }),
  )
  fc.assert(
    fc.property(value, (some) => {
      for (const body of [some, network(some), network({ proxy: some })]) {
        try {
          const { proxy, hostname } = parseHostConfig(body)
          if (hostname) assert.match(hostname, /^[A-Za-z0-9][A-Za-z0-9._-]*$/)
          if (proxy) assert.ok(renderRedsocks(proxy.settings))
        } catch (error) {
          assert.ok(error instanceof HostError)
        }
      }
    }),
  )
})
