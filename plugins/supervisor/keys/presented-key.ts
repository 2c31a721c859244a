const HEADER = /^(?:apikey|bearer) (\w+)$/i

/**
 * The key a request came with (spec §2.1): the query parameter `apikey`, even when it is wrong, or
 * else the header `Authorization: ApiKey KEY` or `Bearer KEY`.
 *
 * A parameter that is empty, repeated or a list (`apikey[]=`) does not count.
 *
 * @param search Query of the URL, with or without its `?`.
 * @param authorization Value of the header.
 */
export function presentedKey(
  search: string,
  authorization: string | null | undefined,
): string | undefined {
  return queryKey(search) ?? HEADER.exec(authorization ?? '')?.[1]
}

function queryKey(search: string): string | undefined {
  let found: string | undefined
  for (const [name, value] of new URLSearchParams(search)) {
    const list = name.startsWith('apikey[')
    if (name !== 'apikey' && !list) continue
    if (found !== undefined || list) return undefined
    found = value
  }
  return found || undefined
}
