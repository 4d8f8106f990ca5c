// Finding text in a thread: in the messages of the page, and on request in those before them.

import { $, count, setText } from "./dom.js";
import { call, threadAddress } from "./net.js";

const MOST_MATCHES = 1000;
const PAGE = 200; // messages that are looked through at once

export class Find {
  /** `goTo(seq)` shows a message, and returns a promise; `failed(failure)` tells of one. */
  constructor(log, goTo, failed) {
    Object.assign(this, { log, goTo, failed, matches: [], current: null, thread: null, searching: 0 });
    $("find-text").addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.search(), 150);
    });
    $("find-text").addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.step(event.shiftKey ? -1 : 1);
    });
    $("find-next").addEventListener("click", () => this.step(1));
    $("find-previous").addEventListener("click", () => this.step(-1));
    $("find-earlier").addEventListener("click", () => this.earlier());
    $("find-close").addEventListener("click", () => this.close());
  }

  get isOpen() {
    return !$("find").hidden;
  }

  open(thread) {
    this.thread = thread;
    $("find").hidden = false;
    $("find-text").focus();
    $("find-text").select();
    this.search();
  }

  close() {
    $("find").hidden = true;
    this.searching += 1;
    this.matches = [];
    this.current = null;
    this.#paint();
    this.log.scroller.focus({ preventScroll: true });
  }

  get #wanted() {
    return $("find-text").value.toLowerCase();
  }

  /** Looks through the page, and goes to the newest match. */
  search() {
    this.searching += 1;
    this.current = null;
    this.#collect();
    if (this.matches.length) this.#choose(this.matches.length - 1);
    else this.#tell();
  }

  #collect() {
    const wanted = this.#wanted;
    this.matches = [];
    if (wanted) {
      for (const body of this.log.list.querySelectorAll(".body, .event > span")) {
        const texts = document.createTreeWalker(body, NodeFilter.SHOW_TEXT);
        for (let node = texts.nextNode(); node && this.matches.length < MOST_MATCHES; node = texts.nextNode()) {
          if (node.parentElement.closest("summary")) continue;
          const lower = node.data.toLowerCase();
          const text = lower.length === node.data.length ? lower : node.data;
          for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
            const range = new Range();
            range.setStart(node, at);
            range.setEnd(node, at + wanted.length);
            this.matches.push(range);
          }
        }
      }
    }
    this.#paint();
  }

  /** Goes to the next match (1) or the previous one (-1). Messages may have come or gone. */
  step(by) {
    const from = this.current;
    this.#collect();
    if (!this.matches.length) return this.#tell();
    if (from === null || !from.startContainer.isConnected) return this.#choose(by > 0 ? 0 : this.matches.length - 1);
    const order = (range) => range.compareBoundaryPoints(Range.START_TO_START, from);
    const at = by > 0 ? this.matches.findIndex((range) => order(range) > 0) : this.matches.findLastIndex((range) => order(range) < 0);
    return this.#choose(at >= 0 ? at : by > 0 ? 0 : this.matches.length - 1);
  }

  #choose(at) {
    this.current = this.matches[at];
    this.log.pinned = false;
    const node = this.current.startContainer.parentElement;
    const closed = node.closest("details:not([open])");
    if (closed) closed.open = true;
    node.scrollIntoView({ block: "center" });
    this.#paint();
    this.#tell(at);
  }

  #paint() {
    if (!globalThis.CSS?.highlights) return;
    CSS.highlights.set("found", new Highlight(...this.matches));
    CSS.highlights.set("found-now", new Highlight(...(this.current ? [this.current] : [])));
  }

  #tell(at) {
    const more = this.log.first > Math.max(1, this.log.oldest);
    $("find-earlier").hidden = !more || !this.#wanted;
    if (!this.#wanted) setText($("find-count"), "");
    else if (at === undefined) setText($("find-count"), more ? `Not in #${this.log.first}–#${this.log.last}` : "Not found");
    else setText($("find-count"), `${at + 1} of ${this.matches.length}`);
  }

  /** Looks through the messages before those in the page, until there is a match. */
  async earlier() {
    const wanted = this.#wanted;
    const run = ++this.searching;
    let before = this.log.first;
    let seen = 0;
    while (before > Math.max(1, this.log.oldest)) {
      let page;
      try {
        page = await call(threadAddress(this.thread, `?before=${before}&limit=${PAGE}`));
      } catch (failure) {
        return this.failed(failure);
      }
      if (run !== this.searching) return;
      if (!page.messages.length) break;
      const found = page.messages.findLast((message) => (message.content ?? "").toLowerCase().includes(wanted));
      if (found) {
        await this.goTo(found.seq);
        this.#collect();
        const at = this.matches.findLastIndex((range) => Number(range.startContainer.parentElement.closest("article").dataset.seq) <= found.seq);
        if (at >= 0) this.#choose(at);
        return;
      }
      seen += page.messages.length;
      before = page.messages[0].seq;
      setText($("find-count"), `Searching before #${before}…`);
    }
    setText($("find-count"), `Not in ${count(seen, "earlier message")}`);
  }
}
