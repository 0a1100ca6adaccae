/** The first `limit` items that pass; stops early when nobody reads on or the user stops it. */
export async function* limited<Item>(
  items: AsyncIterable<Item>,
  limit: number | undefined,
  signal: AbortSignal,
  passes: (item: Item) => boolean = () => true,
): AsyncGenerator<Item> {
  if (limit === 0) return;
  let count = 0;
  for await (const item of items) {
    signal.throwIfAborted();
    if (!passes(item)) continue;
    yield item;
    count++;
    if (count === limit) return;
  }
}
