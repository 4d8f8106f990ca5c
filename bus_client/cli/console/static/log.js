// The messages of a thread that are in the page: at most 600, and fewer long ones, drawn once a frame.

import { article, isEdit, isMessage, showAsked, showEdit } from "./article.js";
import { day, el } from "./dom.js";

const MOST = 600;
const MOST_WEIGHT = 1_000_000; // of those in the page: what has a weight of 20,000 takes 40 ms to draw
const PAGE_WEIGHT = 60_000; // of those that are drawn at once
const DRAWING = 12; // ms of a frame
const NEAR = 900; // pixels from an end at which more is loaded
const AT_END = 48; // pixels from the end that count as the end

/**
 * A window of a thread. It knows the entries from `first` to `last`, one after the other, and the
 * seq of the thread's `head`. What comes is drawn only if the window reaches the head.
 *
 * `on`: earlier(first, number) and later(last, number) load more entries, and return a promise of them;
 * moved() tells that the position, or what is beyond the window, has changed.
 */
export class Log {
  constructor(scroller, list, context, on) {
    Object.assign(this, { scroller, list, context, on });
    this.top = el("p", { class: "edge" });
    this.clear();
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    // Entries grow, too: once it is known what became of their requests, or when they are edited.
    const observer = new ResizeObserver(() => this.pinned && this.toEnd());
    observer.observe(scroller);
    observer.observe(list);
  }

  clear() {
    this.items = new Map(); // seq → {message, node, edit}
    this.weight = 0;
    this.pending = [];
    this.first = 1;
    this.last = this.head = this.oldest = 0;
    this.pinned = true;
    this.behind = 0; // entries that came since the reader left the end
    this.loading = false;
    this.place = 0; // where the reader was: scrollTop
    this.generation = (this.generation ?? 0) + 1;
    this.top.textContent = "";
    this.list.replaceChildren(this.top);
  }

  get reachesHead() {
    return this.last >= this.head;
  }

  get seesEnd() {
    return this.reachesHead && this.pinned && this.pending.length === 0;
  }

  /**
   * Shows a page of messages. `read`: the reader's read seq, after which a line says "new";
   * `target`: the seq to look at, else the newest, or with `fromNew` that line.
   */
  show(messages, { head, oldest, read = 0, target = 0, fromNew = false }) {
    this.clear();
    this.head = head;
    this.oldest = oldest;
    const at = messages.findIndex((message) => (fromNew ? message.seq > read : message.seq === target));
    messages = at < 0 ? lightest(messages, -1) : [...lightest(messages.slice(0, at), -1, PAGE_WEIGHT / 2), ...lightest(messages.slice(at), 1, PAGE_WEIGHT / 2)];
    this.first = messages.length ? messages[0].seq : head + 1;
    this.last = messages.length ? messages.at(-1).seq : head;
    this.newAfter = read && read < head ? read : 0;
    this.list.append(...this.#nodes(messages));
    this.#edge();
    if (target) this.goTo(target);
    else if (fromNew) this.#toNew(head - read);
    else this.toEnd();
    this.on.moved();
  }

  /** Entries that were just posted, in order. */
  add(messages) {
    const fresh = messages.filter((message) => message.seq > this.head);
    if (!fresh.length) return;
    const reached = (this.pending.at(-1)?.seq ?? this.last) >= this.head;
    this.head = fresh.at(-1).seq;
    if (!this.pinned || !reached) this.behind += fresh.filter(isMessage).length;
    if (!reached || (!this.pinned && this.#isFull([...this.pending, ...fresh]))) {
      this.pending = this.pinned ? this.pending : [];
      for (const message of fresh) if (isEdit(message)) this.#edited(message);
      this.on.moved();
      return;
    }
    this.pending.push(...fresh);
    // More than the page holds: the beginning of them would be drawn and dropped at once.
    if (this.pending.length > 2 * MOST) this.pending = this.pending.slice(-MOST);
    this.#draw();
  }

  #draw() {
    if (this.frame) return;
    const generation = this.generation;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      if (generation === this.generation) this.#append();
      if (this.pending.length) this.#draw();
    });
  }

  #append() {
    if (!this.pending.length) return;
    if (this.pending.length > MOST) this.pending = this.pending.slice(-MOST);
    if (this.pending[0].seq > this.last + 1) {
      this.items.clear();
      this.weight = 0;
      this.list.replaceChildren(this.top);
      this.first = this.pending[0].seq;
      this.last = this.first - 1;
    }
    const until = performance.now() + DRAWING;
    const drawn = [];
    let before = this.items.get(this.last)?.message;
    do {
      const message = this.pending.shift();
      drawn.push(...this.#nodes([message], before));
      before = message;
      this.last = message.seq;
    } while (this.pending.length && performance.now() < until);
    this.list.append(...drawn);
    this.#trimTop();
    if (this.pinned) this.toEnd();
    this.#edge();
    this.on.moved();
  }

  /** Returns the nodes of messages that follow one another. */
  #nodes(messages, before) {
    const nodes = [];
    let previous = before;
    for (const message of messages) {
      if (day(message.create_time) !== day(previous?.create_time)) nodes.push(el("p", { class: "day" }, el("span", {}, day(message.create_time))));
      if (this.newAfter && message.seq > this.newAfter) {
        if (previous || message.seq === this.newAfter + 1) nodes.push(el("p", { class: "day new" }, el("span", {}, "new")));
        this.newAfter = 0;
        previous = undefined;
      }
      const node = article(message, this.context, previous);
      const item = { message, node, edit: undefined };
      this.items.set(message.seq, item);
      this.weight += weigh(message);
      if (isEdit(message)) this.#edited(message);
      else if (message.edit_seq) this.#loadEdit(item);
      showAsked(node, message, this.context);
      const asked = message.reply_to ? this.items.get(message.reply_to) : undefined;
      if (asked) showAsked(asked.node, asked.message, this.context);
      nodes.push(node);
      previous = message;
    }
    return nodes;
  }

  #edited(edit) {
    const item = this.items.get(edit.edit_of);
    if (!item || (item.edit?.seq ?? 0) >= edit.seq) return;
    item.message = { ...item.message, edit_seq: Math.max(edit.seq, item.message.edit_seq ?? 0) };
    item.edit = edit;
    showEdit(item.node, item.message, this.context, edit);
  }

  #loadEdit(item) {
    const { thread, edit_seq } = item.message;
    const loaded = this.items.get(edit_seq);
    if (loaded) this.#edited(loaded.message);
    else this.context.peek(thread, edit_seq, (found) => found && this.items.get(item.message.seq) === item && this.#edited(found));
  }

  /** Whether the page has, with some more, too many messages: more than one, of course. */
  #isFull(more = []) {
    const weight = more.reduce((sum, message) => sum + weigh(message), this.weight);
    return this.items.size + more.length > MOST || (weight > MOST_WEIGHT && this.items.size > 1);
  }

  /** How many messages fit into what is drawn at once, if they are as those in the page. */
  get #fitting() {
    return Math.min(100, Math.ceil((2 * PAGE_WEIGHT * this.items.size) / this.weight));
  }

  #drop(seq) {
    const item = this.items.get(seq);
    if (item) this.weight -= weigh(item.message);
    this.items.delete(seq);
  }

  #trimTop() {
    while (this.#isFull()) {
      this.#drop(this.first);
      this.first += 1;
      let node = this.top.nextSibling;
      while (node && !(Number(node.dataset.seq) >= this.first)) {
        const next = node.nextSibling;
        node.remove();
        node = next;
      }
    }
    this.#skipUnknown();
  }

  /** Clients may not get every seq: begin at one that is there. */
  #skipUnknown() {
    while (this.first < this.last && !this.items.has(this.first)) this.first += 1;
  }

  #trimBottom() {
    while (this.#isFull()) {
      this.#drop(this.last);
      this.last -= 1;
      while (this.last > this.first && !this.items.has(this.last)) this.last -= 1;
    }
    while (this.list.lastChild !== this.top && !(Number(this.list.lastChild.dataset.seq) <= this.last)) this.list.lastChild.remove();
  }

  #edge() {
    const begins = this.first <= Math.max(1, this.oldest);
    this.top.textContent = !begins ? "Loading earlier messages…" : this.oldest > 1 ? "Earlier messages are no longer kept." : this.head === 0 ? "" : "The thread begins here.";
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    // What grows under a reader at the end does not take them away from it; scrolling up does.
    this.pinned = scrollHeight - scrollTop - clientHeight < AT_END || (this.pinned && scrollTop >= this.place);
    this.place = scrollTop;
    if (this.seesEnd) this.behind = 0;
    if (!this.loading && this.items.size && !this.pending.length) {
      if (scrollTop < NEAR && this.first > Math.max(1, this.oldest)) this.#load(this.on.earlier(this.first, this.#fitting), (found) => this.#prepend(found));
      else if (scrollHeight - scrollTop - clientHeight < NEAR && !this.reachesHead)
        this.#load(this.on.later(this.last, this.#fitting), (found) => this.#extend(found));
    }
    this.on.moved();
  }

  async #load(promise, use) {
    const generation = this.generation;
    this.loading = true;
    const found = await promise; // null: it failed, and the reader was told
    if (generation !== this.generation) return;
    this.loading = false;
    if (found?.length) use(found);
    this.on.moved();
  }

  #prepend(messages) {
    const older = lightest(messages.filter((message) => message.seq < this.first), -1);
    if (!older.length) return;
    const { scrollHeight, scrollTop } = this.scroller;
    const wasDay = this.top.nextSibling;
    if (wasDay?.classList.contains("day") && day(older.at(-1).create_time) === wasDay.textContent) wasDay.remove();
    this.top.after(...this.#nodes(older));
    this.first = older[0].seq;
    this.#edge();
    // A page that is at the end, as it has little to show, stays there.
    if (this.pinned && this.reachesHead) return this.toEnd();
    this.scroller.scrollTop = scrollTop + this.scroller.scrollHeight - scrollHeight;
    if (this.#isFull()) this.pending = [];
    this.#trimBottom();
  }

  #extend(messages) {
    const newer = lightest(messages.filter((message) => message.seq > this.last), 1);
    if (!newer.length) return;
    this.list.append(...this.#nodes(newer, this.items.get(this.last)?.message));
    this.last = newer.at(-1).seq;
    this.head = Math.max(this.head, this.last);
    const height = this.scroller.scrollHeight;
    this.#trimTop();
    this.scroller.scrollTop -= height - this.scroller.scrollHeight;
    this.#edge();
  }

  toEnd() {
    this.pinned = true;
    this.behind = 0;
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  #toNew(number) {
    this.pinned = false;
    this.behind = number;
    this.scroller.scrollTop = 0;
    this.list.querySelector(".new")?.scrollIntoView({ block: "start" });
    this.#scrolled();
  }

  /** Shows a message that is in the window, and returns whether it is. */
  goTo(seq) {
    const item = this.items.get(seq);
    if (!item) return false;
    this.pinned = false;
    item.node.scrollIntoView({ block: "center" });
    this.focus(item.node);
    for (const node of this.list.querySelectorAll(".target")) node.classList.remove("target");
    item.node.classList.add("target");
    this.#scrolled();
    return true;
  }

  /** Moves the focus by one entry, down (1) or up (-1). */
  step(by) {
    const now = document.activeElement?.closest?.("article");
    let node = now && this.list.contains(now) ? now : null;
    if (node === null) node = by < 0 ? this.list.lastElementChild : this.#inSight();
    else do node = by > 0 ? node.nextElementSibling : node.previousElementSibling;
    while (node && node.tagName !== "ARTICLE");
    if (!node || node === this.top) return;
    this.focus(node);
    node.scrollIntoView({ block: "nearest" });
  }

  focus(node) {
    node.focus({ preventScroll: true });
  }

  #inSight() {
    const { top } = this.scroller.getBoundingClientRect();
    return [...this.list.querySelectorAll("article")].find((node) => node.getBoundingClientRect().bottom > top + 20);
  }

  /** The message that has the focus, if one has. */
  get focused() {
    const node = document.activeElement?.closest?.("article");
    return node && this.list.contains(node) ? this.items.get(Number(node.dataset.seq))?.message : undefined;
  }

  /** Shows what became of requests. */
  showAsked() {
    for (const { node, message } of this.items.values()) if (message.expect_reply) showAsked(node, message, this.context);
  }
}

/** How long a message takes to draw, about. */
const weigh = (message) => 300 + (message.content ?? "").length;

/** Returns the first messages (1), or the last ones (-1), of at most a weight; at least one. */
function lightest(messages, from, most = PAGE_WEIGHT) {
  let [number, weight] = [0, 0];
  while (number < messages.length && (weight += weigh(messages.at(from > 0 ? number : -1 - number))) <= most) number += 1;
  number = Math.max(number, 1);
  return from > 0 ? messages.slice(0, number) : messages.slice(-number);
}
