/*
 * The answers of balena's supervisor (spec §1, §3.2). All texts are sent as plain text.
 */

/** A text. */
export function text(body: string, status = 200): Response {
  return new Response(body, {
    status,
    headers: { 'content-type': 'text/plain; charset=utf-8' },
  })
}

/** JSON. */
export function json(body: unknown, status = 200): Response {
  return jsonText(JSON.stringify(body), status)
}

/** JSON that is a text already. */
export function jsonText(body: string, status = 200): Response {
  return new Response(body, {
    status,
    headers: { 'content-type': 'application/json; charset=utf-8' },
  })
}

/** An answer without a body. */
export function empty(status: 200 | 204): Response {
  return new Response(null, { status })
}

/** A failure in the form most endpoints have; `code` is stable and ours (spec §24.13). */
export function failed(status: number, code: string, message: string): Response {
  return json({ status: 'failed', message, code }, status)
}

/** The form of reboot, shutdown and purge (spec §4.6). */
export function done(): Response {
  return json({ Data: 'OK', Error: '' })
}

/** The page for a path or method that is none (spec §1). */
export function notFoundPage(method: string, path: string): Response {
  const what = escaped(`Cannot ${method} ${path.slice(0, 2048)}`)
  const body = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Error</title>
</head>
<body>
<pre>${what}</pre>
</body>
</html>
`
  return new Response(body, {
    status: 404,
    headers: {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': "default-src 'none'",
      'x-content-type-options': 'nosniff',
    },
  })
}

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

function escaped(plain: string): string {
  return plain.replace(/[&<>"']/g, (char) => ESCAPES[char] as string)
}
