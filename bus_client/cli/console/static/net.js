// Calls of the console, and its stream of events.

const HIDDEN = 60_000; // ms after which a hidden tab closes its stream
const SLOWEST = 15_000; // ms between two attempts to connect
const MOST_STREAMS = 4; // of all tabs: browsers have six connections to a host
const TURN = 3000; // ms for which a tab in sight leaves its place to others

/** A call failed. `status` 0: the console cannot be reached. */
export class Failure extends Error {
  constructor(status, given = {}) {
    super(given.message || "The console did not say why.");
    this.status = status;
    this.reason = given.reason ?? "";
    this.hint = given.hint ?? "";
  }

  /** What to show: the message, and what to do. */
  get sentence() {
    const message = this.message.charAt(0).toUpperCase() + this.message.slice(1);
    const whole = /[.!?]$/.test(message) ? message : `${message}.`;
    return this.hint ? `${whole} ${this.hint.charAt(0).toUpperCase()}${this.hint.slice(1)}` : whole;
  }

  get passing() {
    return this.status === 0 || this.status === 503 || this.status === 504;
  }
}

/** Returns the JSON of an address; with a body, posts it. Throws Failure. */
export async function call(address, body) {
  let response, given;
  try {
    response = await fetch(address, {
      ...(body && { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }),
      credentials: "same-origin",
    });
    given = await response.json();
  } catch {
    throw new Failure(response?.status ?? 0, { message: response ? "The console's answer was not readable." : "The console cannot be reached." });
  }
  if (!response.ok) throw new Failure(response.status, given);
  return given;
}

export const threadAddress = (thread, rest = "") => `api/threads/${encodeURIComponent(thread)}${rest}`;

/** Returns a part of an address as text; as it is if it is not valid. */
export function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

const MOST_PEEKED = 300;

/** Single messages of any thread, which are loaded once. */
export class Peeks {
  #kept = new Map();

  clear() {
    this.#kept.clear();
  }

  /** Returns a promise of a message, cut as usual; undefined if it could not be loaded. */
  get(thread, seq) {
    const key = `${thread} ${seq}`;
    if (!this.#kept.has(key)) {
      if (this.#kept.size >= MOST_PEEKED) this.#kept.delete(this.#kept.keys().next().value);
      const loaded = call(threadAddress(thread, `?around=${seq}&limit=1`)).then(
        (page) => page.messages.find((message) => message.seq === seq),
        () => void this.#kept.delete(key),
      );
      this.#kept.set(key, loaded);
    }
    return this.#kept.get(key);
  }
}

/**
 * The events of a thread and of the overview. Reconnects for as long as it is open, and resumes
 * after the last message that came.
 *
 * Browsers have six connections for all tabs, and with six streams the next tab would not even load.
 * So a hidden tab closes its stream when another tab opens one. Of more tabs in sight than may have a
 * stream, the one that has had it for the longest time closes it for a moment: they take turns.
 *
 * `on`: functions by event: overview (whole), thread, messages, resync and refused get its data;
 * lost() and found() tell of the connection; out(failure) that the browser has to log in.
 */
export class Stream {
  #on;
  #source = null;
  #thread = null;
  #cursor = "";
  #left = false; // what comes of the thread is of no use any more
  #backoff = 1000;
  #retry = null;
  #hide = null;
  #wanted = false;
  #tabs = new BroadcastChannel("threadbus");
  #tab = crypto.getRandomValues(new Uint32Array(2)).join();
  #since = new Set(); // the tabs that have opened a stream since this one has, and have it
  #overview = null; // as it came last, with its changes

  constructor(on) {
    this.#on = on;
    this.#tabs.onmessage = ({ data }) => this.#heard(data);
    document.addEventListener("visibilitychange", () => this.#look());
    addEventListener("pagehide", () => this.#shut());
    addEventListener("pageshow", (event) => event.persisted && this.#open());
  }

  /** Follow a thread after a cursor `EPOCH:SEQ`; null: only the overview. */
  follow(thread, cursor) {
    this.#thread = thread;
    this.#cursor = cursor;
    this.#left = false;
    this.#wanted = true;
    this.#open();
  }

  /** Drop what comes of the thread until follow() is called, which may take a while. */
  leave() {
    this.#left = true;
  }

  stop() {
    this.#wanted = false;
    this.#shut();
  }

  #shut() {
    clearTimeout(this.#retry);
    if (this.#source === null) return;
    this.#source.close();
    this.#source = null;
    this.#tabs.postMessage({ tab: this.#tab, opens: false });
  }

  #heard({ tab, opens }) {
    if (!opens) return this.#since.delete(tab);
    this.#since.add(tab);
    if (this.#source === null) return;
    if (document.visibilityState === "hidden") this.#shut();
    else if (this.#since.size >= MOST_STREAMS) {
      this.#shut();
      this.#retry = setTimeout(() => document.visibilityState === "visible" && this.#open(), TURN);
    }
  }

  #look() {
    clearTimeout(this.#hide);
    if (document.visibilityState === "hidden") this.#hide = setTimeout(() => this.#shut(), HIDDEN);
    else if (this.#source === null) this.#open();
  }

  #open() {
    this.#shut();
    if (!this.#wanted) return;
    this.#since.clear();
    this.#tabs.postMessage({ tab: this.#tab, opens: true });
    const query = new URLSearchParams();
    if (this.#thread !== null) query.set("thread", this.#thread);
    if (this.#thread !== null && this.#cursor) query.set("after", this.#cursor);
    const source = new EventSource(`api/events?${query}`);
    this.#source = source;
    const listen = (name, handle) =>
      source.addEventListener(name, (event) => {
        if (source !== this.#source) return;
        this.#backoff = 1000;
        if (event.lastEventId) this.#cursor = event.lastEventId;
        handle(JSON.parse(event.data));
      });
    const listenToThread = (name, handle) => listen(name, (data) => this.#left || handle(data));
    const show = (overview) => this.#on.overview((this.#overview = overview));
    listen("overview", show);
    listen("changes", (changes) => show(merged(this.#overview, changes)));
    for (const name of ["thread", "messages"]) listenToThread(name, this.#on[name]);
    listenToThread("resync", (found) => {
      this.#shut(); // else the browser opens it again while the thread is loaded, and gets the same
      this.#on.resync(found);
    });
    listen("logged_out", () => this.#on.out(new Failure(401)));
    listenToThread("refused", (given) => this.#on.refused(new Failure(REFUSED[given.reason] ?? 503, given)));
    source.onopen = () => source === this.#source && this.#on.found();
    source.onerror = () => {
      if (source !== this.#source) return;
      this.#on.lost();
      // The browser itself tries again only while it finds nobody, not after a refusal.
      if (source.readyState === EventSource.CLOSED) {
        this.#shut();
        this.#again();
      }
    };
  }

  #again() {
    this.#retry = setTimeout(async () => {
      try {
        await call("api/me");
      } catch (failure) {
        if (failure.status === 401) return this.#on.out(failure);
      }
      if (document.visibilityState === "visible") this.#open();
    }, this.#backoff);
    this.#backoff = Math.min(this.#backoff * 2, SLOWEST);
  }
}

/** Returns an overview with its changes: `drop` has indexes of entries that go, `put` [index, entry] of those that come. */
function merged(overview, changes) {
  const all = { ...overview, ...changes };
  for (const name of ["threads", "requests", "unread"]) {
    const { drop = [], put = [] } = changes[name] ?? {};
    const gone = new Set(drop);
    all[name] = overview[name].filter((_, at) => !gone.has(at));
    for (const [at, entry] of put) all[name].splice(at, 0, entry);
  }
  return all;
}

const REFUSED = { THREAD_NOT_FOUND: 404, ACCESS_DENIED: 403, VALIDATION_FAILED: 400, TOKEN_INVALID: 401, TOKEN_EXPIRED: 401 };
