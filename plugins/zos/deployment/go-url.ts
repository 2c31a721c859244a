/** Why a text is no URL, in the words of Go's `net/url`. */
export class GoUrlError extends Error {
  override readonly name = 'GoUrlError'
}

export interface GoUrl {
  /** Lower case, '' when there is none. */
  readonly scheme: string
  /** With the port, in brackets where it is IPv6, as written. */
  readonly host: string
  /** Without port and brackets. */
  readonly hostname: string
  /** Digits, or ''. */
  readonly port: string
}

const BAD_ESCAPE = /%(?![0-9a-fA-F]{2})/
const CONTROL = /[^ -~\u0080-\uffff]/

/**
 * Takes a URL apart as Go's `url.Parse` does, which takes more and less than the web's rules: no
 * scheme is known, ports have no upper bound, a host is not changed.
 *
 * @throws {GoUrlError}
 */
export function parseGoUrl(text: string): GoUrl {
  const [beforeFragment = '', fragment] = cut(text, '#')
  if (CONTROL.test(beforeFragment)) {
    throw new GoUrlError('net/url: invalid control character in URL')
  }
  const { scheme, rest } = cutScheme(beforeFragment)
  const [address = ''] = cut(rest, '?')
  let [authority, path] = ['', address]
  if (!address.startsWith('/')) {
    if (scheme !== '') return { scheme, host: '', hostname: '', port: '' }
    if (cut(address, '/')[0]?.includes(':')) {
      throw new GoUrlError('first path segment in URL cannot contain colon')
    }
  } else if (address.startsWith('//') && (scheme !== '' || !address.startsWith('///'))) {
    const slash = address.indexOf('/', 2)
    authority = address.slice(2, slash < 0 ? undefined : slash)
    path = slash < 0 ? '' : address.slice(slash)
  }
  const host = hostOf(authority)
  checkEscapes(path)
  checkEscapes(fragment ?? '')
  return { scheme, host, ...splitHost(host) }
}

function cut(text: string, at: string): [string, string?] {
  const i = text.indexOf(at)
  return i < 0 ? [text] : [text.slice(0, i), text.slice(i + 1)]
}

function cutScheme(text: string): { scheme: string; rest: string } {
  if (text.startsWith(':')) throw new GoUrlError('missing protocol scheme')
  const [, scheme, rest] = /^([a-zA-Z][a-zA-Z0-9+.-]*):(.*)$/s.exec(text) ?? []
  if (scheme === undefined) return { scheme: '', rest: text }
  return { scheme: scheme.toLowerCase(), rest: rest ?? '' }
}

function hostOf(authority: string): string {
  const at = authority.lastIndexOf('@')
  if (at >= 0 && !/^[\w\-.:~!$&'()*+,;=%@]*$/.test(authority.slice(0, at))) {
    throw new GoUrlError('net/url: invalid userinfo')
  }
  const host = authority.slice(at + 1)
  const colon = host.startsWith('[') ? host.lastIndexOf(']') + 1 : host.lastIndexOf(':')
  if (host.startsWith('[') && colon === 0) throw new GoUrlError("missing ']' in host")
  const port = colon < 0 ? '' : host.slice(colon)
  if (!/^(?::\d*)?$/.test(port)) {
    throw new GoUrlError(`invalid port ${JSON.stringify(port)} after host`)
  }
  checkEscapes(host)
  const wrong = /[\s"<>\\^`{|}]/.exec(host)?.[0]
  if (wrong !== undefined) {
    throw new GoUrlError(`invalid character ${JSON.stringify(wrong)} in host name`)
  }
  return host
}

function splitHost(host: string): { hostname: string; port: string } {
  const [, bracketed, plain, port] = /^(?:\[(.*)\]|([^[].*?)?)(?::(\d*))?$/s.exec(host) ?? []
  return { hostname: bracketed ?? plain ?? '', port: port ?? '' }
}

function checkEscapes(text: string): void {
  const at = BAD_ESCAPE.exec(text)?.index
  if (at === undefined) return
  throw new GoUrlError(`invalid URL escape ${JSON.stringify(text.slice(at, at + 3))}`)
}
