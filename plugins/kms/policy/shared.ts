import { type Decision, type Policy, PolicyError, type PolicyFacts, type Role } from './policy.ts'

/**
 * Work that is done once for all who wait for it to begin, and begins after they asked. However many
 * ask, one at a time is done.
 */
export function shared<T>(work: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | undefined
  let next: Promise<T> | undefined
  const begin = () => {
    const begun = work()
    running = begun
    const ended = () => {
      running = undefined
    }
    begun.then(ended, ended)
    return begun
  }
  const beginNext = () => {
    next = undefined
    return begin()
  }
  return () => {
    if (!running) return next ?? begin()
    next ??= running.then(beginNext, beginNext)
    return next
  }
}

/**
 * A policy whose service is asked the same thing once at a time: strangers, too, make a KMS ask it
 * about itself, and a service that is kept busy lets nobody have keys. An answer is never older than
 * the request it is for.
 *
 * @param ended Ends questions that nobody waits for any more.
 */
export function sharedPolicy(policy: Policy, ended?: AbortSignal): Policy {
  const questions = new Map<string, { readonly ask: () => Promise<Decision>; open: number }>()

  function decide(role: Role, info: Parameters<Policy['app']>[0]): Promise<Decision> {
    const name = `${role} ${JSON.stringify(info)}`
    const ask = shared(() => policy[role](info, ended))
    const question = questions.get(name) ?? { ask, open: 0 }
    questions.set(name, question)
    question.open += 1
    const answered = () => {
      question.open -= 1
      if (question.open === 0) questions.delete(name)
    }
    const found = question.ask()
    found.then(answered, answered)
    return found
  }

  const describe = shared((): Promise<PolicyFacts> => policy.describe(ended))
  return {
    app: (info, signal) => wanted(signal, () => decide('app', info)),
    kms: (info, signal) => wanted(signal, () => decide('kms', info)),
    describe: (signal) => wanted(signal, describe),
  }
}

/** The answer, as long as somebody waits for it. */
async function wanted<T>(signal: AbortSignal | undefined, ask: () => Promise<T>): Promise<T> {
  const gone = () => new PolicyError('POLICY_ABORTED', 'Cannot ask policy: nobody waits for it')
  if (signal?.aborted) throw gone()
  let onAbort: (() => void) | undefined
  try {
    const ended = new Promise<never>((_, reject) => {
      onAbort = () => reject(gone())
    })
    if (onAbort) signal?.addEventListener('abort', onAbort)
    return await Promise.race([ask(), ended])
  } finally {
    if (onAbort) signal?.removeEventListener('abort', onAbort)
  }
}
