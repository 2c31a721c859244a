import { type ZodType, z } from 'zod'

/**
 * A request or answer schema that is built when it is first used. Most of them are only for the OpenAPI
 * document, or for a plugin that does not run here, and building all of them took a tenth of the start.
 */
export function lazySchema<Schema extends ZodType>(build: () => Schema): Schema {
  let built: Schema | undefined
  const schema = () => {
    if (built) return built
    built = build()
    // Descriptions are looked up by identity.
    const described = z.globalRegistry.get(built)
    if (described) z.globalRegistry.add(proxy, described)
    return built
  }
  const proxy: Schema = new Proxy(Object.create(null), {
    get: (_, name) => Reflect.get(schema(), name),
    has: (_, name) => Reflect.has(schema(), name),
  })
  return proxy
}
