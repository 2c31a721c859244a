import { imageKey } from '../compose/image-key.ts'
import { type Hands, unlessGone } from './hands.ts'
import type { PullCall } from './pulls.ts'

/** Resolves when the image is here and known. */
export async function pullImage(
  image: string,
  call: PullCall,
  { engine, state, memory, note }: Hands,
): Promise<void> {
  note(`image ${image} is being pulled`)
  await memory.ownImage(imageKey(image))
  call.signal.throwIfAborted()
  await engine.images.pull(image, call)
  await state.refreshImage(image, call.signal)
  if (state.imageId(image) !== undefined) return
  throw new Error('the engine says that it was pulled, and does not have it')
}

export async function removeImage(image: string, hands: Hands): Promise<void> {
  const { engine, state, memory, note, signal } = hands
  await unlessGone(engine.images.remove(image, { signal }))
  await memory.disownImage(image)
  await state.refreshImage(image, signal)
  note(`image ${image} removed`)
}
