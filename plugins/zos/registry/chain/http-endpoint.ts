import { askOnce, NoReply } from '../../../../src/http/ask-once.ts'
import {
  badAnswer,
  type Endpoint,
  MAX_ANSWER_BYTES,
  readReply,
  requestText,
  unreachable,
} from './endpoint.ts'

/** JSON-RPC by POST, each request on a connection of its own. */
export function createHttpEndpoint(url: URL, ca?: string): Endpoint {
  const shown = url.origin
  let last = 0
  return {
    shown,
    drop: () => undefined,
    async call(method, params, signal) {
      const id = ++last
      const body = requestText(id, method, params)
      const reply = await askOnce({
        url,
        headers: {
          accept: 'application/json',
          'accept-encoding': 'identity',
          'content-type': 'application/json',
          'content-length': String(Buffer.byteLength(body)),
        },
        body,
        ca,
        most: MAX_ANSWER_BYTES,
        reads: (status) => status === 200,
        signal,
      }).catch((error) => {
        if (!(error instanceof NoReply)) throw error
        throw error.code === 'TOO_LARGE'
          ? badAnswer(shown, `its answer is too long: ${error.message}`)
          : unreachable(shown, error.message)
      })
      if (reply.status !== 200) throw unreachable(shown, `status ${reply.status}`)
      const answer = readReply(new TextDecoder().decode(reply.body))
      if (answer === undefined) throw badAnswer(shown, 'its answer is no JSON-RPC reply')
      if (answer.error !== undefined) throw badAnswer(shown, answer.error)
      if (answer.id !== id) throw badAnswer(shown, 'its answer is for another request')
      return answer.result
    },
  }
}
