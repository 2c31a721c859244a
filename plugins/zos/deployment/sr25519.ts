type Verify = (message: Uint8Array, signature: Uint8Array, publicKey: Uint8Array) => boolean

/**
 * Whether a Schnorrkel signature with the context `substrate` is right. Never throws. The code for it
 * is loaded with the first call.
 *
 * @param publicKey 32 bytes.
 * @param signature 64 bytes.
 */
export async function verifySr25519(
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  if (publicKey.length !== 32 || signature.length !== 64) return false
  const { verify }: { verify: Verify } = await import('@scure/sr25519')
  try {
    return verify(message, signature, publicKey)
  } catch {
    // It throws on points and scalars that are none.
    return false
  }
}
