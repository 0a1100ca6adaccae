/**
 * A JSON object with one long array, written piece by piece, so that a listing of any length needs no memory.
 *
 * An error in the middle still gives a whole object: its last key, `error`, says so.
 */
import { describeFailure, failureJson } from '../failure.js';
import type { Answer } from '../output/answer.js';

export interface Listing<Item> {
  readonly schema: string;
  readonly path: string;
  /** The array's key. */
  readonly key: string;
  readonly items: AsyncIterable<Item>;
  readonly toJson: (item: Item) => object;
}

/** Returns the exit code. */
export async function printJsonListing<Item>(answer: Answer, listing: Listing<Item>): Promise<number> {
  const { schema, path, key, items, toJson } = listing;
  const head = JSON.stringify({ schema, schemaVersion: 1, path });
  await answer.text(`${head.slice(0, -1)},${JSON.stringify(key)}:[`);
  let separator = '';
  try {
    for await (const item of items) {
      await answer.text(separator + JSON.stringify(toJson(item)));
      separator = ',';
      if (answer.closed) break;
    }
  } catch (error) {
    const failure = describeFailure(error);
    const { error: fields } = failureJson(failure) as { error: object };
    await answer.text(`],"error":${JSON.stringify(fields)}}\n`);
    return failure.exitCode;
  }
  await answer.text('],"error":null}\n');
  return 0;
}
