import * as v from 'valibot'

/** Podman says null where Docker says `[]` or `{}` (spec balena-supervisor §23.4). */
export function listOf<const Item extends v.GenericSchema>(item: Item) {
  return v.pipe(
    v.nullish(v.array(item), []),
    v.transform((items): readonly v.InferOutput<Item>[] => items),
  )
}

export function recordOf<const Item extends v.GenericSchema>(item: Item) {
  return v.pipe(
    v.nullish(v.record(v.string(), item), {}),
    v.transform((items): Readonly<Record<string, v.InferOutput<Item>>> => items),
  )
}

/** Names and values, such as labels. */
export const Texts = recordOf(v.string())

/** A text that may be missing, which is the same as an empty one. */
export const Text = v.nullish(v.string(), '')
export const Count = v.nullish(v.number(), 0)
export const Flag = v.nullish(v.boolean(), false)
