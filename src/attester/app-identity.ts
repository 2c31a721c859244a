/** Who the application in this VM is (spec dstack §6.4, §6.5); identifiers are lower-case hex. */
export interface AppIdentity {
  readonly appName: string
  /** 20 bytes. */
  readonly appId: string
  /** 20 bytes, or empty. */
  readonly instanceId: string
  /** SHA-256 of exactly the bytes of {@link appCompose}. */
  readonly composeHash: string
  readonly appCompose: string
  /** 32 bytes, or empty where nobody says it. */
  readonly osImageHash: string
  /** JSON text, or empty. */
  readonly vmConfig: string
  readonly keyProvider: { readonly name: string; readonly id: string } | undefined
}

/** The service `appIdentity` of the plugin `guest`. */
export interface AppIdentitySource {
  /** @throws {Error} Before the plugin that reads it has started. */
  current(): AppIdentity
}
