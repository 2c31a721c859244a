import * as v from 'valibot'
import { secret } from './secret.ts'

/** An absolute path. */
export const AbsolutePath = v.pipe(
  v.string(),
  v.startsWith('/', 'must be an absolute path'),
  v.regex(/^[^\0]*$/, 'must not contain NUL'),
)

/** A program and its arguments; no shell is involved. */
export const Program = v.pipe(
  v.array(v.pipe(v.string(), v.regex(/^[^\0]*$/, 'must not contain NUL'))),
  v.minLength(1),
  v.maxLength(32),
  v.check(([program]) => program !== '', 'the program must not be empty'),
)

export function flag(fallback: boolean, description: string) {
  return v.optional(v.pipe(v.boolean(), v.description(description)), fallback)
}

/** From `least` seconds to `most`. Default: a day. */
export function seconds(least: number, description: string, most = 86_400) {
  return v.pipe(v.number(), v.minValue(least), v.maxValue(most), v.description(description))
}

/**
 * A URL without user, password or fragment, since configurations are shown.
 *
 * @param schemes `/^https?:/`
 * @param what For the message: `an http or https URL`.
 */
export function plainUrl(schemes: RegExp, what: string) {
  return v.pipe(
    v.string(),
    v.check((text) => schemes.test(text) && URL.canParse(text), `must be ${what}`),
    v.check((text) => {
      if (!URL.canParse(text)) return true
      const { username, password, hash } = new URL(text)
      return username === '' && password === '' && hash === ''
    }, 'must have no user, password or fragment'),
  )
}

export const HttpUrl = plainUrl(/^https?:\/\//, 'an http or https URL')

const MAX_REGISTRIES = 256

/** Who pulls images, by registry: `host[:port]`. */
export const RegistriesConfig = v.optional(
  v.pipe(
    v.record(
      v.pipe(v.string(), v.regex(/^[A-Za-z0-9.-]{1,255}(?::[0-9]{1,5})?$/, 'must be host[:port]')),
      v.strictObject({
        username: v.pipe(v.string(), v.nonEmpty(), v.maxLength(255)),
        password: secret(),
      }),
    ),
    v.check((all) => Object.keys(all).length <= MAX_REGISTRIES, `at most ${MAX_REGISTRIES}`),
    v.description('Who pulls images, by registry'),
  ),
  {},
)
