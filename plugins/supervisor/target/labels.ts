/**
 * A label under its name of today: `io.resin.` in front and `resin` inside are balena's older
 * names (spec §11). Other labels stay as they are.
 */
export function balenaLabel(name: string): string {
  if (!/^io\.(?:resin|balena)\./.test(name)) return name
  return name.replaceAll('resin', 'balena')
}

/** All labels under their names of today; where both are given the newer name counts. */
export function balenaLabels(labels: Readonly<Record<string, string>>): Record<string, string> {
  const renamed = Object.entries(labels).map(([name, value]) => [balenaLabel(name), value])
  return { ...Object.fromEntries(renamed), ...labelsOfToday(labels) }
}

function labelsOfToday(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).filter(([name]) => balenaLabel(name) === name))
}

/** `true`, `1` and `on` in any case (spec §3.1); everything else is false. */
export function isTruthy(value: string | undefined): boolean {
  return value !== undefined && ['true', '1', 'on'].includes(value.toLowerCase())
}
