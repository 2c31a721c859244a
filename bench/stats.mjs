// Order statistics and plain-text tables.

/** The value below which a share of the numbers lies (nearest rank); NaN of nothing. */
export function quantile(numbers, share) {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN
}

/** The middle number, or the mean of the middle two; NaN of nothing. */
export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b)
  const middle = sorted.length / 2
  if (Number.isInteger(middle)) return (sorted[middle - 1] + sorted[middle]) / 2
  return sorted[Math.floor(middle)]
}

/** Every order of the list that begins elsewhere, one per round, so that no variant is always first. */
export function rotated(list, round) {
  const at = round % list.length
  return [...list.slice(at), ...list.slice(0, at)]
}

/** Rows of figures as aligned columns; numbers to the right, with as many digits as they deserve. */
export function table(rows) {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))]
  const cells = [columns, ...rows.map((row) => columns.map((column) => cell(row[column])))]
  const widths = columns.map((_, i) => Math.max(...cells.map((line) => line[i].length)))
  const left = columns.map((column) => rows.some((row) => typeof row[column] === 'string'))
  return cells
    .map((line) =>
      line
        .map((text, i) => (left[i] ? text.padEnd(widths[i]) : text.padStart(widths[i])))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

function cell(value) {
  if (value === undefined) return '-'
  if (typeof value !== 'number') return String(value)
  const digits = Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 10 ? 1 : 2
  return value.toLocaleString('en', { maximumFractionDigits: digits })
}
