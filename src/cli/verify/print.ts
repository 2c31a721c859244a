import { reasonOf, type Step } from '../../attest/verdict.ts'
import { escapeText } from '../../events/format.ts'
import type { Claims, Judgement } from './judge.ts'

const WORDS = { passed: 'ok', failed: 'FAILED', skipped: 'skipped' } as const

/**
 * A verdict for a person: a line for each step and each claim, the outcome last. What evidence says
 * cannot act on a terminal.
 */
export function verdictText(form: string, verdict: Judgement): string {
  const { accepted, steps, claims = {}, caveat } = verdict
  const width = Math.max(
    ...[...steps.map(({ name }) => name), ...Object.keys(claims)].map(lengthOf),
  )
  const line = (first: string, name: string, value: string) =>
    `${first.padEnd(9)}${name.padEnd(width)}  ${escapeText(value)}`
  const claimLines = Object.entries(claims).map(([name, value]) => line('', name, shown(value)))
  if (claimLines.length > 0) claimLines.unshift('', accepted ? 'It proves:' : 'It claims:', '')
  return [
    form,
    '',
    ...steps.map(({ name, outcome, detail }) => line(WORDS[outcome], name, detail)),
    ...claimLines,
    '',
    accepted
      ? `accepted${caveat === undefined ? '' : ` ${caveat}`}`
      : `rejected: ${escapeText(reason(reasonOf(verdict)))}`,
  ].join('\n')
}

/** A verdict for a program; `reason` is the first failed step. */
export function verdictJson(form: string, verdict: Judgement): unknown {
  const { accepted, steps, claims, caveat = null } = verdict
  const { code, detail } = reasonOf(verdict) ?? {}
  const reason = accepted ? null : { code, detail }
  return { accepted, reason, caveat, form, steps, claims: claims ?? null }
}

function reason(step: Step | undefined): string {
  return step ? `${step.detail} (${step.code ?? step.name})` : 'nothing was checked'
}

function shown(value: Claims[string]): string {
  if (typeof value === 'string') return value
  return typeof value === 'boolean' ? (value ? 'yes' : 'no') : value.join(', ') || 'none'
}

const lengthOf = ({ length }: string) => length
