// The menu of a thread: what one can do with it beside writing.

import { $, el, openDialog } from "./dom.js";
import { Failure, call, threadAddress } from "./net.js";

export class Menu {
  /** `page`: info, thread, log, find, me, kind, problem(failure), changedInfo(info). */
  constructor(page) {
    this.page = page;
    $("more").addEventListener("click", () => this.toggle());
    $("menu").addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("pointerdown", (event) => !event.target.closest("#menu, #more") && this.toggle(false));
  }

  #mayChange() {
    const { kind, me, info } = this.page;
    return kind === "human" || kind === "operator" || [me, "anonymous"].includes(info.creator);
  }

  #settings() {
    const topic = el("input", { value: this.page.info.topic, disabled: !this.#mayChange() });
    const stage = el("input", { value: this.page.info.stage, maxlength: 63 });
    openDialog("Topic and stage", [el("label", {}, "Topic", topic), el("label", {}, "Stage", stage), el("p", { class: "muted" }, `${this.page.info.creator} created this thread; first message kept: #${this.page.info.first_seq}.`)], {
      action: "Save",
      act: async () => {
        const changed = { ...(topic.value !== this.page.info.topic && { topic: topic.value }), ...(stage.value !== this.page.info.stage && { stage: stage.value }) };
        if (Object.keys(changed).length) await this.#update(changed);
      },
    });
  }

  async #update(change) {
    this.page.changedInfo(await call(threadAddress(this.page.thread), change));
  }

  #close() {
    const { thread } = this.page;
    openDialog(`Close ${thread}?`, el("p", {}, "Nobody can post to it, and open requests end. It can be reopened."), { action: "Close thread", danger: true, act: () => this.#update({ state: "closed" }) });
  }

  goTo() {
    const seq = el("input", { inputmode: "numeric", placeholder: `1 to ${this.page.log.head}`, "aria-label": "Number of the message" });
    openDialog("Go to a message", el("label", {}, "Number", seq), {
      action: "Go",
      act: () => {
        const number = Number(seq.value.replace(/^#/, ""));
        if (!Number.isInteger(number) || number < 1) throw new Failure(400, { message: "Write the number of a message" });
        location.hash = `#/${encodeURIComponent(this.page.thread)}/${number}`;
      },
    });
  }

  toggle(open = $("menu").hidden) {
    const { info } = this.page;
    const menu = $("menu");
    menu.hidden = !open;
    $("more").setAttribute("aria-expanded", String(!menu.hidden));
    if (menu.hidden) return;
    const close = () => (this.toggle(false), $("more").focus()); // where a dialog returns the focus
    const item = (text, act) => el("button", { type: "button", role: "menuitem", onclick: () => (close(), act()) }, text);
    const file = (text, format) => el("a", { role: "menuitem", href: threadAddress(this.page.thread, `/export?format=${format}`), download: true, onclick: close }, text);
    menu.replaceChildren(
      ...($("find-button").checkVisibility() ? [] : [item("Find…", () => this.page.find.open(this.page.thread))]),
      item("Go to a number…", () => this.goTo()),
      item("Topic and stage…", () => this.#settings()),
      ...(this.#mayChange() ? [info.state === "THREAD_STATE_OPEN" ? item("Close thread…", () => this.#close()) : item("Reopen thread", () => this.#update({ state: "open" }).catch((failure) => this.page.problem(failure)))] : []),
      file("Export as Markdown", "markdown"),
      file("Export as JSON lines", "jsonl"),
    );
    menu.querySelector("[role=menuitem]").focus();
  }

  #key(event) {
    const items = [...$("menu").querySelectorAll("[role=menuitem]")];
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) items[(items.indexOf(document.activeElement) + by + items.length) % items.length].focus();
    else if (event.key === "Escape") {
      this.toggle(false);
      $("more").focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
