/**
 * Whether granted scopes cover a needed one. A scope is words joined by `:`; a grant may end in
 * `*` (`actions:run:*`, `events:*`, or `*` for everything).
 */
export function grants(granted: readonly string[], needed: string): boolean {
  return granted.some((scope) =>
    scope.endsWith('*') ? needed.startsWith(scope.slice(0, -1)) : scope === needed,
  )
}

/** What a scope in a key or configuration must look like. */
export const SCOPE = /^(\*|[a-z][a-z0-9-]*(:[A-Za-z0-9._ -]+)*(:\*)?)$/
