/** A JSON value with the place in the source where it stands, its end exclusive. */
export type JsonNode = JsonObject | JsonArray | JsonString | JsonNumber | JsonBoolean | JsonNull

interface Span {
  readonly start: number
  readonly end: number
}

export interface JsonObject extends Span {
  readonly kind: 'object'
  /** In the order of the text; a name may come twice. */
  readonly members: readonly JsonMember[]
}

export interface JsonMember {
  readonly name: string
  readonly value: JsonNode
}

export interface JsonArray extends Span {
  readonly kind: 'array'
  readonly items: readonly JsonNode[]
}

export interface JsonString extends Span {
  readonly kind: 'string'
  readonly value: string
}

export interface JsonNumber extends Span {
  readonly kind: 'number'
  /** As it was written. */
  readonly text: string
}

export interface JsonBoolean extends Span {
  readonly kind: 'bool'
  readonly value: boolean
}

export interface JsonNull extends Span {
  readonly kind: 'null'
}
