import { createHash } from 'node:crypto'
import { VERSION } from '../../../src/version.ts'
import type { SessionState } from './session.ts'
import { TOKEN_FILE } from './token.ts'

/** What the page shows. */
export interface PageView {
  readonly simulated: boolean
  readonly needsToken: boolean
  readonly state: SessionState
  readonly finished: boolean
  /** What went wrong with what the page's reader asked for. */
  readonly error?: string | undefined
}

/** What a form of the page asks for, in its field `action`. */
export type PageAction = 'bootstrap' | 'join' | 'finish'

const STYLE = `
body { font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem }
form, dl { border: 1px solid #8888; border-radius: .5rem; margin: 1rem 0; padding: 0 1rem 1rem }
label { display: block; margin: .5rem 0 }
input, textarea { box-sizing: border-box; display: block; font: inherit; padding: .3rem; width: 100% }
textarea, dd, code { font-family: ui-monospace, monospace; overflow-wrap: anywhere }
dt { font-weight: 600; margin-top: .5rem }
dd { margin: 0 }
button { font: inherit; margin-top: .5rem; padding: .3rem 1rem }
[role=alert] { border-left: .4rem solid #c00; padding: .2rem .6rem }
`

/**
 * The page as an answer. Nothing on it is run, nothing is loaded, and no other site can show it.
 *
 * @param headers Beside those of every page.
 */
export function pageResponse(
  view: PageView,
  status = 200,
  headers: Readonly<Record<string, string>> = {},
): Response {
  const html = Buffer.from(onboardingPage(view))
  const style = createHash('sha256').update(STYLE).digest('base64')
  const policy = [
    "default-src 'none'",
    `style-src 'sha256-${style}'`,
    "form-action 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
  ]
  return new Response(html, {
    status,
    headers: {
      'content-type': 'text/html; charset=utf-8',
      'content-length': String(html.length),
      'content-security-policy': policy.join('; '),
      // With `no-referrer` browsers hide from which site a form was sent.
      'referrer-policy': 'same-origin',
      ...headers,
    },
  })
}

/** The page; works without scripts, and holds nothing secret. */
function onboardingPage({ simulated, needsToken, state, finished, error }: PageView): string {
  const token = needsToken ? TOKEN_FIELD : ''
  const alert = (text: string) => `<p role="alert">${text}</p>\n`
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Set up a KMS</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Set up a KMS</h1>
${error === undefined ? '' : alert(escaped(error))}${simulated ? alert(SIMULATED) : ''}${shown(state)}
${finished ? FINISHED : state.kind === 'empty' ? startForms(token) : finishForm(token)}
<p>cvmd ${VERSION}</p>
</body>
</html>
`
}

const SIMULATED = '<strong>Simulated machine: nothing here is protected.</strong>'

const TOKEN_FIELD = `<label>Token, from the file <code>${TOKEN_FILE}</code> in the state directory
<input type="password" name="token" autocomplete="off" required></label>
`

const DOMAIN_FIELD = `<label>DNS name or IP address of this KMS
<input name="domain" maxlength="253" autocomplete="off" spellcheck="false" required></label>
`

const FINISHED = '<p>The set-up is finished: this address now becomes a KMS, over HTTPS.</p>'

const startForms = (token: string): string => `${form(
  'bootstrap',
  'Make root keys',
  'For the first KMS of a cluster.',
  DOMAIN_FIELD + token,
)}
${form(
  'join',
  'Join another KMS',
  'Takes over its root keys, if its policy allows this machine and ours allows it.',
  `<label>URL of the other KMS
<input type="url" name="source_url" maxlength="2048" placeholder="https://kms.example:12001" required></label>
${DOMAIN_FIELD}${token}`,
)}`

const finishForm = (token: string): string =>
  form('finish', 'Finish', 'Ends the set-up; from then on this is a KMS.', token)

const form = (action: PageAction, title: string, about: string, fields: string): string =>
  `<form method="post" action="/">
<h2>${title}</h2>
<p>${about}</p>
${fields}<button name="action" value="${action}">${title}</button>
</form>`

function shown(state: SessionState): string {
  switch (state.kind) {
    case 'empty':
      return '<p>There are no root keys yet.</p>'
    case 'found':
      return '<p>There are root keys already, which were not made from this page.</p>'
    case 'joined':
      return `<p>This KMS has joined another one.</p>\n${listed({
        'Public key (secp256k1)': state.answer.k256_pubkey,
      })}`
    case 'bootstrapped': {
      const { ca_pubkey, k256_pubkey, measurement } = state.answer
      return `<p>Root keys were made. Keep what is below, register this KMS, then finish.</p>
${listed({
  Measurement: measurement,
  'Public key (secp256k1)': k256_pubkey,
  'Public key of the certificate authority': ca_pubkey,
})}
<label>All of it, as JSON
<textarea readonly rows="6">${escaped(JSON.stringify(state.answer, null, 2))}</textarea></label>`
    }
  }
}

const listed = (values: Readonly<Record<string, string>>): string =>
  `<dl>\n${Object.entries(values)
    .map(([name, value]) => `<dt>${name}</dt><dd>${escaped(value)}</dd>`)
    .join('\n')}\n</dl>`

function escaped(text: string): string {
  return text.replace(/[&<>"'\u0080-\u{10ffff}]/gu, (found) => `&#${found.codePointAt(0)};`)
}
