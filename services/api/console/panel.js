// A part of the page that is read from the API: when it was read, and why it could not be.

import { Failure } from "./api.js";
import { at, put } from "./dom.js";
import { clock } from "./format.js";

/** A part of the page. `load(signal)` reads and shows it. */
export class Panel {
  #asOf;
  #load;
  #abort = null;
  #timer = null;
  #beganAt = 0;
  #readAt = 0;
  #isBad = false;

  constructor(id, load) {
    this.#asOf = at(`${id}-as-of`);
    this.#load = load;
  }

  /** Reads it now. What is being read is given up. */
  async refresh() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#abort?.abort();
    const abort = new AbortController();
    this.#abort = abort;
    this.#beganAt = Date.now();
    try {
      await this.#load(abort.signal);
      this.touch();
    } catch (error) {
      if (abort.signal.aborted) return;
      if (!(error instanceof Failure)) throw error;
      const since = this.#readAt ? `since ${clock(this.#readAt)}` : "yet";
      this.#tell(`not read ${since}: ${error.message}`, true);
    } finally {
      if (this.#abort === abort) this.#abort = null;
    }
  }

  /** Reads it soon, but not more often than every so many milliseconds, and not while it is being read. */
  soon(every) {
    if (this.#timer !== null) return;
    const wait = Math.max(0, this.#beganAt + every - Date.now());
    this.#timer = setTimeout(() => {
      this.#timer = null;
      if (document.hidden) return;
      if (this.#abort) this.soon(every);
      else this.refresh();
    }, wait);
  }

  /** What it shows is of now. */
  touch() {
    this.#readAt = Date.now();
    this.#tell(`as of ${clock(this.#readAt)}`, false);
  }

  /** Nothing has changed since it was read. */
  holds() {
    const isRead = this.#readAt > 0 && !this.#isBad;
    if (isRead && this.#timer === null && this.#abort === null) this.touch();
  }

  #tell(text, isBad) {
    this.#isBad = isBad;
    if (!this.#asOf) return;
    put(this.#asOf, text);
    this.#asOf.classList.toggle("warn", isBad);
  }
}
