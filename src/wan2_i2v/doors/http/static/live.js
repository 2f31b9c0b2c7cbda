/* The stream of events, kept alive: resumed after the last event, tried again with growing patience, closed while nobody
   looks (browsers allow six connections to a server, and every open tab would hold one). */

const PATIENCE = [500, 1000, 2000, 4000, 8000, 15000];
const HIDDEN_MS = 30000;
const KINDS = ["state", "progress", "preview", "rating", "reset"];

export class Live {
  /** `onEvent(kind, data)`, `onOpen(resumed)`, `onLost()`: called as they happen. */
  constructor({ onEvent, onOpen, onLost }) {
    Object.assign(this, { onEvent, onOpen, onLost });
    this.last = null;
    this.failures = 0;
    this.timer = null;
    document.addEventListener("visibilitychange", () => this.watch());
    window.addEventListener("online", () => this.connect());
  }

  connect() {
    this.close();
    this.source = new EventSource(this.last === null ? "/api/events" : `/api/events?last=${this.last}`);
    this.source.onopen = () => {
      this.failures = 0;
      this.onOpen();
    };
    this.source.onerror = () => this.lost();
    for (const kind of KINDS) this.source.addEventListener(kind, (event) => this.take(kind, event));
  }

  take(kind, event) {
    if (event.lastEventId) this.last = event.lastEventId;
    this.onEvent(kind, event.data ? JSON.parse(event.data) : {});
  }

  /** The browser's own retries are not waited for: after an HTTP error it makes none. */
  lost() {
    this.close();
    this.onLost();
    const wait = PATIENCE[Math.min(this.failures, PATIENCE.length - 1)];
    this.failures += 1;
    this.timer = setTimeout(() => this.connect(), wait);
  }

  close() {
    clearTimeout(this.timer);
    if (this.source) this.source.close();
    this.source = null;
  }

  watch() {
    clearTimeout(this.hiding);
    if (document.hidden) this.hiding = setTimeout(() => this.close(), HIDDEN_MS);
    else if (!this.source) this.connect();
  }
}
