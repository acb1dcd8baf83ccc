/** Rows on their way out: a line of JSON each. */

import { iterable, type Rows } from "./batches.js";
import { toJson } from "./json.js";

// As many characters as go out together where the rows are there already.
const PIECE_CHARS = 16_384;

/** Makes lines of rows, which are asked for as the lines are wanted. */
export class RowLines {
  /** How many rows the pieces have had. */
  rows = 0;
  /** Whether the rows are there, so that nobody waits for one. */
  readonly ready: boolean;
  readonly #rows: Iterator<unknown> | AsyncIterator<unknown>;
  #ended = false;
  #asking = false;
  #held = "";

  /** ArgumentError for what is no rows one after the other. */
  constructor(rows: Rows) {
    const walked = iterable(rows);
    this.ready = !(Symbol.asyncIterator in walked);
    this.#rows = Symbol.asyncIterator in walked ? walked[Symbol.asyncIterator]() : walked[Symbol.iterator]();
  }

  /** Give the lines of the next rows: at most so many, and a long one alone; "" at the end. */
  async piece(rowsMax: number, charsMax: number): Promise<string> {
    let piece = this.#held;
    let count = piece ? 1 : 0;
    this.#held = "";
    while (count < rowsMax && !this.#ended) {
      const next = this.#rows.next();
      this.#asking = true;
      const { done, value } = this.ready ? (next as IteratorResult<unknown>) : await next;
      this.#asking = false;
      if (done) {
        this.#ended = true;
        break;
      }
      const line = `{"inputs":${toJson(value)}}\n`;
      if (piece && piece.length + line.length > charsMax) {
        this.#held = line;
        break;
      }
      piece += line;
      count += 1;
    }
    this.rows += count;
    return piece;
  }

  /** Tell the rows' iterator that no more are wanted. */
  async end(): Promise<void> {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    const left = (async () => this.#rows.return?.())();
    if (this.#asking) {
      // Iterators that still work on a row may never hear it, so nobody waits for them.
      left.catch(() => {});
    } else {
      await left;
    }
  }
}

/** A body that takes lines as it is read. */
export class LineBody {
  readonly stream: ReadableStream<Uint8Array>;
  /** What the rows, or their encoding, have thrown. */
  failed: { readonly reason: unknown } | undefined;

  constructor(lines: RowLines) {
    const encoder = new TextEncoder();
    this.stream = new ReadableStream({
      pull: async (controller) => {
        try {
          const piece = await lines.piece(lines.ready ? Infinity : 1, PIECE_CHARS);
          if (piece) {
            controller.enqueue(encoder.encode(piece));
          } else {
            controller.close();
          }
        } catch (reason) {
          this.failed = { reason };
          controller.error(reason);
        }
      },
      cancel: () => lines.end(),
    });
  }
}
