/** Server-sent events: event streams as the HTML standard has them (section 9.2), read by programs. */

import { LineCutter } from "./cutting.js";

/** An event of a stream. */
export interface ServerSentEvent {
  /** Its type; "message" where the stream says none. */
  readonly event: string;
  /** Its lines, with a line feed between two. */
  readonly data: string;
  /** The last id that the stream has said, with this event or before; "" where there was none. */
  readonly id: string;
  /** How many milliseconds to wait before connecting again, as the stream has said it last; undefined where not. */
  readonly retry: number | undefined;
}

/**
 * Give the events of a stream, such as `response.body`, as they come. Who stops early cancels the stream.
 *
 * The rules are those of browsers' EventSource, which sends nothing but GET: bytes that are no UTF-8 become U+FFFD,
 * and an event without its empty line at the end is none. It throws what reading the stream does.
 */
export async function* serverSentEvents(
  stream: ReadableStream<Uint8Array>,
): AsyncGenerator<ServerSentEvent, void, undefined> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      yield* parser.parse(decoder.decode(value, { stream: true }));
    }
  } finally {
    // A stream that has ended, or failed, takes no notice or says again what it has thrown.
    await reader.cancel().catch(() => {});
    reader.releaseLock();
  }
}

/** Makes events of a stream's text, without the mark of byte order before it. */
export class EventParser {
  readonly #lines = new LineCutter(/\r\n|\r|\n/);
  // A carriage return ended the last piece, and a line. A line feed behind it belongs to it.
  #returned = false;
  #event = "";
  #data: string[] = [];
  #id = "";
  #retry: number | undefined;

  /** Take a piece and give the events that it completes. */
  parse(piece: string): ServerSentEvent[] {
    if (piece === "") {
      return [];
    }
    const text = this.#returned && piece.startsWith("\n") ? piece.slice(1) : piece;
    this.#returned = piece.endsWith("\r");
    const events: ServerSentEvent[] = [];
    for (const line of this.#lines.cut(text)) {
      if (line !== "") {
        this.#field(line);
        continue;
      }
      if (this.#data.length > 0) {
        const data = this.#data.join("\n");
        events.push({ event: this.#event || "message", data, id: this.#id, retry: this.#retry });
      }
      this.#event = "";
      this.#data = [];
    }
    return events;
  }

  /** A name, and what stands behind the colon and at most one space. A comment is a field without a name. */
  #field(line: string): void {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (name === "data") {
      this.#data.push(value);
    } else if (name === "event") {
      this.#event = value;
    } else if (name === "id" && !value.includes("\0")) {
      this.#id = value;
    } else if (name === "retry" && /^[0-9]+$/.test(value)) {
      this.#retry = Number(value);
    }
  }
}
