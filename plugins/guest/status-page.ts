import type { Attester } from '../../src/attester/attester.ts'
import { VERSION } from '../../src/version.ts'
import type { Identity } from './identity.ts'

/** The page a person sees at the root of a public listener; nothing on it is secret. */
export function statusPage(identity: Identity, { platform, simulated }: Attester): string {
  const rows: readonly (readonly [string, string])[] = [
    ['Application', identity.appName],
    ['App id', identity.appId],
    ['Instance id', identity.instanceId],
    ['Compose hash', identity.composeHash],
    ['Platform', platform === 'tdx' ? 'Intel TDX' : 'AWS Nitro'],
    ['Agent', `cvmd ${VERSION}`],
  ]
  const table = rows
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `<tr><th scope="row">${name}</th><td>${escaped(value)}</td></tr>`)
    .join('\n')
  const warning = simulated
    ? '<p role="alert"><strong>Simulated machine: nothing here is protected.</strong></p>\n'
    : ''
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escaped(identity.appName || 'Confidential VM')}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem }
th { text-align: left; padding-right: 1rem; vertical-align: top; white-space: nowrap }
td { font-family: ui-monospace, monospace; overflow-wrap: anywhere }
</style>
</head>
<body>
<h1>${escaped(identity.appName || 'Confidential VM')}</h1>
${warning}<table>
${table}
</table>
<p>This page proves nothing. Ask for evidence bound to a nonce of your own:
<code>/attestation?nonce=HEX</code></p>
</body>
</html>
`
}

/** As HTML, in ASCII: some readers of the socket count characters where others count bytes. */
function escaped(text: string): string {
  return text.replace(/[&<>"'\u0080-\u{10ffff}]/gu, (found) => `&#${found.codePointAt(0)};`)
}
