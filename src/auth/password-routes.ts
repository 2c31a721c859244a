import { Hono } from 'hono'
import * as v from 'valibot'
import { systemApiError, systemApiJson } from '../compat/system-api.ts'
import { ApiError, messageOf } from '../errors.ts'
import { definePlugin, type PluginEnv } from '../plugin.ts'
import { route } from '../route.ts'
import { MAX_PASSWORD_BYTES, type PasswordStore } from './password.ts'

/**
 * system-api's `POST /api/v1/set-basic-auth` (spec system-api §5.6): the whole body, nothing
 * trimmed, becomes the password of user `admin`.
 *
 * ```sh
 * curl -X POST http://127.0.0.1:3535/api/v1/set-basic-auth --data-binary "$PASSWORD"
 * ```
 *
 * 200 `{"message":"Basic auth secret updated"}`; 501 with an empty body without a secret file; 500
 * with an empty body when it cannot be written; 413 for more than 1024 bytes.
 *
 * The event says only that the password changed. The original adds the new hash, which is one fast
 * SHA-256 with a salt that is the same on all nodes of an image: whoever may read the log, or
 * receives a copy of it, could guess the password offline.
 *
 * @param store undefined where no secret file is configured.
 */
export function passwordPlugin(store: PasswordStore | undefined) {
  return definePlugin({
    name: 'auth',
    summary: 'Sets the Basic password of the operator API',
    config: v.strictObject({}),
    exposure: 'network',
    renderError: systemApiError,
    permissions: () => (store === undefined ? {} : { read: [store.path], write: [store.path] }),
    setup({ events, log }) {
      const facts = route({
        summary: 'Set the password of user admin: the body, as it is',
        scope: 'auth:write',
        head: false,
        answers: {
          200: { description: 'The password was changed' },
          413: { description: 'The password is too long' },
          500: { description: 'The secret file could not be written' },
          501: { description: 'No secret file is configured' },
        },
      })
      const routes = new Hono<PluginEnv>().post('/api/v1/set-basic-auth', facts, async (c) => {
        if (store === undefined) return c.body(null, 501)
        const password = new Uint8Array(await c.req.arrayBuffer())
        if (password.byteLength > MAX_PASSWORD_BYTES) {
          throw new ApiError(
            413,
            'PASSWORD_TOO_LONG',
            `Cannot set a password of ${password.byteLength} bytes: the limit is ${MAX_PASSWORD_BYTES}`,
          )
        }
        try {
          await store.set(password)
        } catch (error) {
          log.error(`Cannot write the Basic auth secret: ${messageOf(error)}`)
          return c.body(null, 500)
        }
        events.append('[system-api] basic auth secret updated')
        return systemApiJson(200, { message: 'Basic auth secret updated' })
      })
      return { routes }
    },
  })
}
