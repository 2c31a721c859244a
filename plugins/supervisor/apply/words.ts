import type { Why } from '../plan/steps.ts'

/** Fields that a reason names; the others are counted. */
const NAMED = 20

/** Why a container goes, for events: `image, environment.LOG_LEVEL`. No values. */
export function reasonOf(why: Why): string {
  switch (why.kind) {
    case 'changed': {
      const { fields } = why
      const rest = fields.length > NAMED ? ` and ${fields.length - NAMED} more` : ''
      return fields.length === 0 ? 'unknown' : `${fields.slice(0, NAMED).join(', ')}${rest}`
    }
    case 'gone':
      return 'the target does not name it'
    case 'not-running':
      return 'the target says that it shall not run'
    case 'halted':
      return 'it was stopped by the user'
    case 'network':
    case 'volume':
      return `${why.kind} ${why.name}`
    case 'network-owner':
      return `the network of ${why.serviceName}`
    case 'recreate':
      return 'it was asked for'
    case 'duplicate':
      return 'there is another container of it'
    case 'dead':
      return 'the engine could not remove it'
  }
}
