type Version = readonly [major: number, minor: number, patch: number]

interface Comparator {
  readonly operator: '>=' | '<'
  readonly version: Version
}

const MAX_LENGTH = 256
const PARTIAL = /^v?(\d{1,9}|[xX*])(?:\.(\d{1,9}|[xX*]))?(?:\.(\d{1,9}|[xX*]))?(?:[-+.][\w.+-]*)?$/

/**
 * Whether a version is in a range as npm writes ranges: `>=1.2 <2`, `^1.4`, `~1.4.2`, `1.x`,
 * `1 - 2`, `1 || 2`. What follows the three numbers is not looked at: `5.10.104-tegra` is 5.10.104.
 *
 * @returns False as well when one of them cannot be read.
 */
export function inRange(version: string, range: string): boolean {
  const wanted = exact(version)
  if (wanted === undefined || range.length > MAX_LENGTH) return false
  return range.split('||').some((alternative) => {
    const comparators = readAlternative(alternative.trim())
    return comparators?.every(({ operator, version: bound }) => {
      const order = compare(wanted, bound)
      return operator === '<' ? order < 0 : order >= 0
    })
  })
}

function exact(text: string): Version | undefined {
  const parts = text.length > MAX_LENGTH ? null : PARTIAL.exec(text.trim())
  if (parts === null) return undefined
  const [major, minor = 0, patch = 0] = numbers(parts)
  return major === undefined ? undefined : [major, minor, patch]
}

function readAlternative(text: string): Comparator[] | undefined {
  const hyphen = /^(\S+)\s+-\s+(\S+)$/.exec(text)
  const words = hyphen
    ? [`>=${hyphen[1]}`, `<=${hyphen[2]}`]
    : text.replaceAll(/([<>=^~])\s+/g, '$1').split(/\s+/)
  const all: Comparator[] = []
  for (const word of words) {
    const comparators = word === '' ? [] : readWord(word)
    if (comparators === undefined) return undefined
    all.push(...comparators)
  }
  return all
}

function readWord(word: string): Comparator[] | undefined {
  const [, operator = '', rest = ''] = /^(>=|<=|>|<|=|\^|~>?)?(.*)$/.exec(word) ?? []
  const parts = PARTIAL.exec(rest)
  if (parts === null) return undefined
  const given = numbers(parts)
  const [major = 0, minor = 0, patch = 0] = given
  const from: Version = [major, minor, patch]
  const least: Comparator = { operator: '>=', version: from }
  switch (operator) {
    case '>=':
      return [least]
    case '<':
      return [{ operator: '<', version: from }]
    case '>':
      return given.length === 0 ? [never] : [{ operator: '>=', version: after(given) }]
    case '<=':
      return given.length === 0 ? [] : [{ operator: '<', version: after(given) }]
    case '^':
      return given.length === 0 ? [] : [least, { operator: '<', version: caret(given) }]
    case '~':
    case '~>':
      return given.length === 0 ? [] : [least, { operator: '<', version: after(given.slice(0, 2)) }]
    default:
      return given.length === 0 ? [] : [least, { operator: '<', version: after(given) }]
  }
}

const never: Comparator = { operator: '<', version: [0, 0, 0] }

/** The numbers before the first `x`. */
function numbers(parts: RegExpExecArray): number[] {
  const given = parts.slice(1, 4)
  const end = given.findIndex((part) => part === undefined || !/^\d/.test(part))
  return given.slice(0, end < 0 ? 3 : end).map(Number)
}

/** The first version behind all that begin with these one to three numbers. */
function after(given: readonly number[]): Version {
  const [major = 0, minor = 0, patch = 0] = given
  if (given.length === 1) return [major + 1, 0, 0]
  return given.length === 2 ? [major, minor + 1, 0] : [major, minor, patch + 1]
}

/** Nothing left of the first number that is not 0 may change. */
function caret(given: readonly number[]): Version {
  const leading = given.findIndex((part) => part > 0)
  return after(given.slice(0, leading < 0 ? given.length : leading + 1))
}

function compare(a: Version, b: Version): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2]
}
