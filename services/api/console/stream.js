// The stream of stock changes. EventSource can send no token, so the events are read from a fetch; it resumes as EventSource
// would, with the id of the last event it saw.

import { Failure, failureOf, headers } from "./api.js";

/** The API says at least every 15 s that it is there. */
const SILENCE_MS = 40_000;
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 15_000;

/** Reads server-sent events out of text that comes in pieces. */
export class EventReader {
  #rest = "";
  #event = { type: "message", data: [] };
  #id = "";
  /** The id of the last event that came whole. */
  lastId = "";

  /** The events that end in this piece. */
  read(piece) {
    const events = [];
    const text = this.#rest + piece;
    // A carriage return at the end may be half of a line's end.
    const lines = text.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line !== "") this.#field(line);
      else {
        this.lastId = this.#id;
        if (this.#event.data.length) events.push({ type: this.#event.type, data: this.#event.data.join("\n") });
        this.#event = { type: "message", data: [] };
      }
    }
    return events;
  }

  #field(line) {
    const colon = line.indexOf(":");
    const [name, value] = colon < 0 ? [line, ""] : [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, "")];
    if (name === "data") this.#event.data.push(value);
    else if (name === "event") this.#event.type = value || "message";
    else if (name === "id" && !value.includes("\0")) this.#id = value;
  }
}

/** Follows the stream until it is stopped. `told` has `changes(list)`, `reset()`, `state({open, failure, retryAt})`. */
export class Stream {
  #told;
  #lastId = "";
  #attempt = 0;
  #abort = null;
  #wake = null;
  #running = false;

  constructor(told) {
    this.#told = told;
  }

  start() {
    if (this.#running) return;
    this.#running = true;
    this.#follow();
  }

  stop() {
    this.#running = false;
    this.#abort?.abort();
    this.#wake?.();
  }

  /** Begins anew instead of asking for what was missed. */
  forget() {
    this.#lastId = "";
  }

  /** Does not wait for the next attempt. */
  now() {
    this.#wake?.();
  }

  async #follow() {
    const abort = new AbortController();
    this.#abort = abort;
    while (this.#running && this.#abort === abort) {
      let failure;
      try {
        await this.#connection(abort.signal);
        failure = new Failure("the stream ended");
      } catch (error) {
        failure = error instanceof Failure ? error : new Failure("the stream broke off");
      }
      if (!this.#running || this.#abort !== abort) return;
      // The id is of a topic that is not there any more.
      if (failure.status === 400) this.#lastId = "";
      const wait = this.#wait(failure);
      this.#told.state({ open: false, failure, retryAt: Date.now() + wait });
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, wait);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = null;
    }
  }

  #wait(failure) {
    const backoff = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#attempt);
    this.#attempt += 1;
    // Not all pages at once, after the API was away.
    return Math.max(failure.retryAfter * 1000, backoff) * (0.75 + Math.random() / 2);
  }

  async #connection(stopped) {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), SILENCE_MS);
    try {
      const sent = headers({ Accept: "text/event-stream", ...(this.#lastId && { "Last-Event-ID": this.#lastId }) });
      const response = await fetch("/stock/stream", { headers: sent, cache: "no-store", signal: AbortSignal.any([stopped, silence.signal]) });
      if (!response.ok) throw await failureOf(response);
      const isNew = !this.#lastId;
      this.#told.state({ open: true, isNew });
      const reader = new EventReader();
      const pieces = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await pieces.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENCE_MS);
        this.#attempt = 0;
        this.#take(reader.read(value));
        if (reader.lastId) this.#lastId = reader.lastId;
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #take(events) {
    const changes = [];
    for (const event of events) {
      if (event.type === "stock") changes.push(JSON.parse(event.data));
      else if (event.type === "reset") this.#told.reset();
    }
    if (changes.length) this.#told.changes(changes);
  }
}
