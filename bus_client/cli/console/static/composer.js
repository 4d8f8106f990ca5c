// Where a person writes: mentions, reply, ask, priority, and a text that no failure loses.

import { called } from "./article.js";
import { $, button, el, gist, keyed, line, setText, word } from "./dom.js";
import { call } from "./net.js";

const MOST_NAMES = 8; // offered at once
const AT_NAME = /(?<![\w.@+%-])@([a-z0-9][a-z0-9._-]{0,62})(?![\w\p{M}\p{Cf}])/giu; // as `threadbus post`, but for invisible characters
const TYPED = /(?<![\w.@+%-])@([a-z0-9._-]{0,62})$/i;

/** The composer. `context`: me, names (a Map), participants(), agentsWanted(), posted(thread, seq). */
export class Composer {
  constructor(context) {
    this.context = context;
    this.text = $("text");
    this.drafts = new Map(); // by thread: {text, reply, ask, handoff, priority}
    this.thread = null;
    this.reply = null;
    this.attempt = null; // {key, id}: what was sent last, with its request_id
    this.offered = [];
    this.chosen = 0;
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.post();
    });
    this.text.addEventListener("input", () => this.#typed());
    this.text.addEventListener("keydown", (event) => this.#key(event));
    this.text.addEventListener("blur", () => setTimeout(() => this.#offer([]), 150));
    this.text.addEventListener("focus", () => this.context.agentsWanted());
    $("show-options").addEventListener("click", () => {
      const open = $("composer").classList.toggle("all");
      $("show-options").setAttribute("aria-expanded", String(open));
    });
    $("options").addEventListener("change", () => this.#keep());
  }

  /** Shows the draft of a thread. */
  open(thread) {
    this.#keep();
    this.thread = thread;
    const draft = this.drafts.get(thread) ?? stored(thread) ?? {};
    this.text.value = draft.text ?? "";
    $("ask").checked = draft.ask ?? false;
    $("priority").value = draft.priority ?? "normal";
    this.#setTurn(draft.handoff ?? "");
    this.#setReply(draft.reply ?? null);
    setText($("posted"), "");
    $("posted").classList.remove("failed");
    this.#grow();
  }

  answer(message) {
    this.#setReply({ seq: message.seq, sender: message.sender, text: gist(message.content ?? "", 120) });
    this.text.focus();
  }

  mention(name) {
    const text = this.text.value;
    this.text.value = `${text}${text && !/\s$/.test(text) ? " " : ""}@${name} `;
    this.text.focus();
    this.#typed();
  }

  /** Offers the participants to hand the turn to. */
  showTurns() {
    this.#setTurn($("handoff").value);
  }

  #setTurn(chosen) {
    const others = new Set([...this.context.participants(), chosen].filter((name) => name && name !== this.context.me));
    const names = ["", ...[...others].sort()];
    keyed($("handoff"), names, (name) => name, (name) => el("option", { value: name }, name || "nobody"));
    $("handoff").value = chosen;
  }

  #setReply(reply) {
    this.reply = reply;
    const place = $("reply");
    place.hidden = reply === null;
    place.replaceChildren(
      ...(reply === null
        ? []
        : [el("span", {}, `Reply to #${reply.seq} ${reply.sender}: ${reply.text}`), button("✕", () => this.#setReply(null), { class: "icon", "aria-label": "Do not reply to it" })]),
    );
  }

  #keep() {
    if (this.thread === null) return;
    const draft = { text: this.text.value, reply: this.reply, ask: $("ask").checked, handoff: $("handoff").value, priority: $("priority").value };
    this.drafts.set(this.thread, draft);
    try {
      if (draft.text) sessionStorage.setItem(`draft ${this.thread}`, JSON.stringify(draft));
      else sessionStorage.removeItem(`draft ${this.thread}`);
    } catch {
      // Storage is full or off: the draft lasts as long as the page.
    }
  }

  #grow() {
    this.text.style.height = "auto";
    this.text.style.height = `${Math.min(this.text.scrollHeight + 2, innerHeight * 0.4)}px`;
  }

  #mentions() {
    const prose = this.text.value.replace(/^ {0,3}(`{3,}|~{3,})[^]*?(?:^ {0,3}\1|$(?![^]))/gm, " ").replace(/(`+)[^`]{0,2000}?\1(?!`)/g, " ");
    const found = new Set();
    const unknown = new Set();
    for (const [, typed] of prose.matchAll(AT_NAME)) {
      const name = [typed, typed.replace(/[._-]+$/, "")].map((each) => each.toLowerCase()).find((each) => this.context.names.has(each));
      if (name) found.add(name);
      else unknown.add(typed);
    }
    return { found: [...found].slice(0, 32), unknown: [...unknown] };
  }

  async post() {
    const { thread } = this;
    const text = this.text.value;
    if (!text.trim()) {
      this.text.focus();
      return this.#tell("Write something first.", true);
    }
    await this.context.agentsWanted();
    const { found: mentions, unknown } = this.#mentions();
    const ask = $("ask").checked;
    const handoff = $("handoff").value;
    if (ask && !mentions.length && !handoff && !this.reply) return this.#tell("Mention whom you ask, as @name.", true);
    const asked = mentions.length || handoff ? true : [this.reply?.sender];
    const body = {
      thread,
      text,
      mentions,
      priority: $("priority").value,
      ...(this.reply && { reply_to: this.reply.seq }),
      ...(handoff && { handoff_to: handoff }),
      ...(ask && { ask: asked }),
    };
    const key = JSON.stringify(body);
    // The same again after a failure has the same id, and is posted once.
    if (this.attempt?.key !== key) this.attempt = { key, id: newId() };
    const focused = document.activeElement === $("post"); // what is disabled loses it
    $("post").disabled = true;
    this.#tell("Posting…");
    try {
      const posted = await call("api/post", { ...body, request_id: this.attempt.id });
      this.attempt = null;
      this.drafts.delete(thread);
      if (this.thread === thread) {
        this.text.value = this.text.value === text ? "" : this.text.value;
        this.#setReply(null);
        $("ask").checked = false;
        $("priority").value = "normal";
        this.#setTurn("");
        this.#keep();
        this.#grow();
        this.#tell(sentence(posted, unknown));
      }
      this.context.posted(thread, posted.seq);
    } catch (failure) {
      this.#tell(`Not posted. ${failure.sentence} Your text is still here.`, true);
    }
    $("post").disabled = false;
    if (focused) $("post").focus();
  }

  #tell(text, failed = false) {
    setText($("posted"), text);
    $("posted").classList.toggle("failed", failed);
  }

  // ── Names to mention ────────────────────────────────────────────────────────────────────────

  #typed() {
    this.#grow();
    this.#keep();
    this.context.agentsWanted();
    this.suggest();
  }

  /** Offers names that begin as what is being typed after an @. */
  suggest() {
    if (document.activeElement !== this.text) return;
    const start = TYPED.exec(this.text.value.slice(0, this.text.selectionStart));
    if (start === null) return this.#offer([]);
    const typed = start[1].toLowerCase();
    const here = this.context.participants();
    const fits = [...this.context.names.keys()].filter((name) => name.startsWith(typed) && name !== this.context.me);
    fits.sort((a, b) => here.has(b) - here.has(a) || a.localeCompare(b));
    this.#offer(fits.slice(0, MOST_NAMES));
  }

  #offer(names) {
    if (names.join() !== this.offered.join()) this.chosen = 0;
    this.offered = names;
    const list = $("names");
    list.hidden = !names.length;
    keyed(
      list,
      names,
      (name) => name,
      (name) => el("div", { role: "option", id: `name-${name}`, onpointerdown: (event) => this.#take(event, name) }, el("b", {}, `@${name}`), el("span", { class: "muted" })),
      (node, name) => {
        node.setAttribute("aria-selected", String(name === names[this.chosen]));
        const agent = this.context.names.get(name);
        setText(node.lastChild, ` ${[word(agent.presence), line(agent.description ?? "", 60)].filter(Boolean).join(" · ")}`);
      },
    );
    if (names.length) this.text.setAttribute("aria-activedescendant", `name-${names[this.chosen]}`);
    else this.text.removeAttribute("aria-activedescendant");
  }

  #take(event, name) {
    event.preventDefault();
    const end = this.text.selectionStart;
    const before = this.text.value.slice(0, end).replace(TYPED, `@${name} `);
    this.text.value = before + this.text.value.slice(end);
    this.text.setSelectionRange(before.length, before.length);
    this.text.focus();
    this.#offer([]);
    this.#keep();
  }

  #key(event) {
    if (event.isComposing) return;
    if (this.offered.length) {
      const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (by) {
        event.preventDefault();
        this.chosen = (this.chosen + by + this.offered.length) % this.offered.length;
        return this.#offer(this.offered);
      }
      if ((event.key === "Enter" && !event.ctrlKey && !event.metaKey) || event.key === "Tab") return this.#take(event, this.offered[this.chosen]);
      if (event.key === "Escape") {
        event.stopPropagation();
        return this.#offer([]);
      }
    }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.post();
    } else if (event.key === "Escape" && this.reply) {
      event.stopPropagation();
      this.#setReply(null);
    }
  }
}

function stored(thread) {
  try {
    return JSON.parse(sessionStorage.getItem(`draft ${thread}`));
  } catch {
    return null;
  }
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function sentence(posted, unknown) {
  const others = (posted.recipients ?? []).slice(0, 4).map((each) => `${called(each.agent)} ${word(each.presence) || "not seen yet"}`);
  const more = (posted.recipients ?? []).length - others.length;
  const parts = [`Posted #${posted.seq}`, ...others, ...(more > 0 ? [`${more} more`] : [])];
  if (unknown.length) parts.push(`@${unknown[0]} is not registered: not mentioned`);
  return parts.join(" · ");
}
