/** Lines of text that comes in pieces. */

/** Cuts pieces into lines, in time that grows with their length alone, however small they or long the lines are. */
export class LineCutter {
  readonly #ending: string | RegExp;
  // Put together once, at the line's end: a line may be as long as an answer.
  #begun: string[] = [];

  /** `ending` is what ends a line. One of several characters has to come whole. */
  constructor(ending: string | RegExp) {
    this.#ending = ending;
  }

  /** Take a piece and give the lines that it completes. */
  cut(piece: string): string[] {
    const lines = piece.split(this.#ending);
    const rest = lines.pop() as string;
    if (lines.length > 0) {
      this.#begun.push(lines[0] as string);
      lines[0] = this.#begun.join("");
      this.#begun = [];
    }
    this.#begun.push(rest);
    return lines;
  }

  /** What has come of a line that nothing ended. */
  get rest(): string {
    return this.#begun.join("");
  }
}
