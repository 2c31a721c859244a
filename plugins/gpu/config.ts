import * as v from 'valibot'

export const Config = v.strictObject({
  classes: v.optional(
    v.pipe(
      v.picklist(['all', 'reference']),
      v.description('Which PCI classes count: "reference" leaves GPUs without display output out'),
    ),
    'all',
  ),
})
export type Config = v.InferOutput<typeof Config>
