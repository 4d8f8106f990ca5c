// The page: what is shown, how it gets there, and what the person does.

import { addresses, avatar, isMessage, spokenWords } from "./article.js";
import { Composer } from "./composer.js";
import { $, ago, announce, button, count, el, line, setText, visible } from "./dom.js";
import { Find } from "./find.js";
import { Log } from "./log.js";
import { Menu } from "./menu.js";
import { Failure, Peeks, Stream, call, decoded, threadAddress } from "./net.js";
import { Inbox, openAgent, openHelp, openNew, openWithdraw, showAgents, showWaits } from "./pages.js";
import { LIVE, listenToFilter, showPeople, showRequests, showThreads } from "./side.js";

const PAGE = 100; // messages that are loaded at once
const AGENTS_AGE = 10_000; // ms after which the agents are read again, if they are needed
const PAGE_AGE = 3000; // ms between two readings of a page that no event tells of
const PEOPLE_PAUSE = 300; // ms between two drawings of the people

class Page {
  me = "";
  kind = ""; // human, agent or operator
  operator = false;
  names = new Map(); // agents by name
  overview = { threads: [], requests: [], unread: [], live: true, signed_out: "" };
  unread = new Map();
  view = ""; // thread, inbox, agents or waits
  thread = null; // the name of the thread that is shown
  info = null;
  people = [];
  failed = null; // {thread, seq} that could not be loaded, for another attempt
  lost = false;
  heard = false; // an overview has come
  loads = 0;
  agentsRead = 0;
  peeks = new Peeks();
  told = 0; // the seq that was reported as read
  unsaid = [];
  signedOut = ""; // why, as the person was told
  stepping = false; // from thread to thread, by keys

  constructor() {
    this.log = new Log($("scroller"), $("log"), this, {
      earlier: (first, number) => this.#page(`?before=${first}&limit=${number}`),
      later: (last, number) => this.#page(`?around=${last + 1 + Math.floor(number / 2)}&limit=${number}`),
      moved: () => this.#moved(),
    });
    this.composer = new Composer(this);
    this.find = new Find(this.log, (seq) => this.#load(this.thread, seq), (failure) => this.problem(failure));
    this.inbox = new Inbox(this);
    this.menu = new Menu(this);
    this.stream = new Stream({
      overview: (overview) => this.#overview(overview),
      thread: (given) => this.#about(given),
      messages: (messages) => this.#messages(messages),
      resync: (found) => this.#resync(found),
      refused: (failure) => this.#refused(failure),
      lost: () => this.#connection(true),
      found: () => this.#connection(false),
      out: (failure) => this.#gate(failure),
    });
    this.#listen();
  }

  async start() {
    const token = /^#token=([\w-]{1,200})$/.exec(location.hash);
    if (token) history.replaceState(null, "", `${location.pathname}${location.search}#/`);
    try {
      if (token) await call("login", { token: token[1] });
      await this.#meet();
    } catch (failure) {
      return this.#gate(failure);
    }
    $("gate").hidden = true;
    $("app").hidden = false;
    this.agentsWanted();
    this.#route();
  }

  /** Learns for whom the console acts. It knows no kind before a bus has answered. */
  async #meet() {
    const { agent, kind, operator, server } = await call("api/me");
    Object.assign(this, { me: agent, kind, operator });
    $("me").replaceChildren(avatar(agent), el("span", {}, el("b", {}, agent), operator && agent !== "operator" ? " · operator" : "", el("span", { class: "muted" }, ` at ${server}`)));
    for (const node of document.querySelectorAll(".operator")) node.hidden = !operator;
  }

  #gate(failure) {
    this.stream.stop();
    $("app").hidden = true;
    $("gate").hidden = false;
    setText($("gate-text"), failure.status === 401 ? "You are signed out." : failure.sentence);
    document.title = "ThreadBus · signed out";
    if (failure.status === 0) setTimeout(() => this.start(), 3000);
  }

  // ── Where the page is ───────────────────────────────────────────────────────────────────────

  #route() {
    if (location.hash.startsWith("#token=")) return this.start();
    const [, name, seq] = /^#\/([^/]+)(?:\/(\d{1,15}))?$/.exec(location.hash) ?? [];
    this.#fold();
    if (name !== undefined) return this.#openThread(decoded(name), Number(seq ?? 0));
    const view = this.operator && { "#agents": "agents", "#waits": "waits" }[location.hash];
    return this.#openPage(view || "inbox");
  }

  #openPage(view) {
    const first = this.view === "";
    this.composer.open(null);
    Object.assign(this, { view, thread: null, info: null, people: [], failed: null });
    this.loads += 1;
    this.log.clear();
    this.#arrange();
    this.problem(null);
    $("title").title = "";
    setText($("title"), { inbox: "Inbox", agents: "Agents", waits: "Open waits" }[view]);
    setText($("topic"), { inbox: "What needs you, in all threads", agents: "All agents that are registered", waits: "Who waits for messages right now" }[view]);
    $("page-view").replaceChildren(view === "inbox" ? this.inbox.node : el("p", { class: "muted" }, "Loading…"));
    if (!first) $("page-view").focus();
    this.stream.follow(null, "");
    this.#refresh();
    this.changed();
  }

  async #openThread(thread, seq) {
    if (thread === this.thread && this.failed === null) {
      if (seq && !this.log.goTo(seq)) await this.#load(thread, seq);
      else if (!seq) this.#newest();
      return;
    }
    this.find.isOpen && this.find.close();
    this.stream.leave();
    this.composer.open(thread);
    Object.assign(this, { view: "thread", thread, info: null, people: [], told: 0, unsaid: [] });
    this.log.clear();
    this.#moved();
    this.#arrange();
    setText($("title"), line(thread, 128));
    $("title").title = line(thread, 128);
    setText($("topic"), "");
    $("more").disabled = $("text").disabled = $("post").disabled = true; // until it is known
    this.#showPeople();
    const { read_seq: read = 0, head_seq: head = 0 } = this.unread.get(thread) ?? {};
    await this.#load(thread, seq, !seq && read < head ? read : 0);
    if (matchMedia("(pointer: fine)").matches && !seq && this.failed === null) (this.stepping ? this.log.scroller : $("text")).focus();
    this.stepping = false;
  }

  /** Shows a part of a thread: what is around a seq, what is new after a seq that was `read`, or its end. */
  async #load(thread, seq, read = 0) {
    const load = ++this.loads;
    let page;
    try {
      page = await call(threadAddress(thread, `?limit=${PAGE}${seq || read ? `&around=${seq || read + 1}` : ""}`));
    } catch (failure) {
      if (load === this.loads) this.#unloaded(thread, seq, failure);
      return;
    }
    if (load !== this.loads) return;
    this.failed = null;
    this.info = page.thread;
    const { head_seq: head, first_seq: oldest, epoch } = page.thread;
    const past = !page.messages.length && head >= oldest; // a link from another history
    if (past) await this.#load(thread, 0);
    const there = !seq || page.messages.some((message) => message.seq === seq);
    this.problem(there ? null : new Failure(404, { message: `There is no #${seq} in ${thread}: it has #${oldest} to #${head}` }));
    if (past) return;
    this.log.show(page.messages, { head, oldest, read: read || (this.unread.get(thread)?.read_seq ?? 0), target: there ? seq : 0, fromNew: read > 0 });
    this.#showInfo();
    // From the head on, also where the page shows something earlier: else all of that would come.
    this.stream.follow(thread, `${epoch}:${head}`);
  }

  #unloaded(thread, seq, failure) {
    if (failure.status === 401) return this.#gate(failure);
    this.failed = { thread, seq };
    if (failure.reason === "THREAD_NOT_FOUND") this.problem(new Failure(404, { message: `There is no thread ${thread}` }), button("Create it", () => this.#newThread(thread)));
    else this.problem(failure);
    this.stream.follow(null, "");
    if (failure.status === 0) setTimeout(() => this.failed?.thread === thread && this.#load(thread, seq), 2000);
  }

  async #page(query) {
    try {
      return (await call(threadAddress(this.thread, query))).messages;
    } catch (failure) {
      this.problem(failure);
      return null;
    }
  }

  #newest() {
    if (this.log.reachesHead) {
      this.log.toEnd();
      this.#moved();
    } else this.#load(this.thread, 0);
  }

  #arrange() {
    const isThread = this.view === "thread";
    $("thread-view").hidden = $("actions").hidden = $("people").hidden = !isThread;
    $("app").classList.toggle("with-people", isThread);
    $("page-view").hidden = isThread;
    for (const view of ["inbox", "agents", "waits"]) {
      if (view === this.view) $(`${view}-link`).setAttribute("aria-current", "page");
      else $(`${view}-link`).removeAttribute("aria-current");
    }
    this.#showThreads();
  }

  /** Shows what went wrong, with something to do about it; null: nothing did. */
  problem(failure, ...more) {
    $("problem").hidden = failure === null;
    if (failure === null) return;
    if (failure.status === 401) return this.#gate(failure);
    $("problem").replaceChildren(visible(failure.sentence), ...more.filter(Boolean).flatMap((node) => [" ", node]), button("✕", () => this.problem(null), { class: "icon", "aria-label": "Hide this" }));
  }

  // ── What comes ──────────────────────────────────────────────────────────────────────────────

  #overview(overview) {
    const back = overview.live && (!this.overview.live || !this.heard);
    this.overview = { threads: [], requests: [], unread: [], ...overview };
    this.heard = true;
    this.unread = new Map(this.overview.unread.map((each) => [each.thread, each]));
    this.#showLive();
    if (back && this.failed) this.#load(this.failed.thread, this.failed.seq);
    if (back && !this.kind) this.#meet().then(() => this.changed(), () => {});
    this.#refresh();
    this.changed();
  }

  #about({ thread, participants }) {
    if (thread.name !== this.thread) return;
    this.info = thread;
    this.people = participants;
    this.#showInfo();
    this.#showPeople();
    this.#read();
  }

  #messages(messages) {
    this.log.add(messages);
    this.unsaid.push(...messages.filter((message) => message.sender !== this.me && isMessage(message)).slice(-20));
    if (!this.unsaid.length) return;
    const [latest] = this.unsaid.slice(-1);
    const mine = this.unsaid.filter((message) => addresses(message, this.me)).length;
    announce(this.unsaid.length === 1 ? spokenWords(latest) : `${count(this.unsaid.length, "new message")} in ${this.thread}${mine ? `, ${mine} for you` : ""}`);
    clearTimeout(this.saying);
    this.saying = setTimeout(() => (this.unsaid = []), 3500);
    this.unsaid = this.unsaid.slice(-100);
  }

  /** The stream cannot go on from where the page was: its history is another one, or too long. */
  #resync({ epoch, head }) {
    if (epoch !== this.info?.epoch || head < this.log.head) announce("The history of this thread was replaced.");
    this.peeks.clear();
    this.told = 0;
    this.#load(this.thread, 0);
  }

  #refused(failure) {
    if (failure.status === 401) return this.#connection(false);
    if (failure.passing) return;
    this.failed = { thread: this.thread, seq: 0 };
    this.problem(failure);
    this.stream.follow(null, "");
  }

  #connection(lost) {
    const back = this.lost && !lost;
    this.lost = lost;
    this.#showLive();
    if (back && this.failed) this.#load(this.failed.thread, this.failed.seq);
  }

  #showLive() {
    const { signed_out: reason } = this.overview;
    if (reason && reason !== this.signedOut) this.problem(new Failure(403, { message: `The console is signed out of the bus: ${reason}` }));
    this.signedOut = reason;
    const state = this.lost ? "console" : reason ? "out" : !this.overview.live ? "bus" : this.heard ? "live" : "connecting";
    for (const node of [$("live"), $("live-small")]) {
      node.dataset.state = state;
      setText(node, LIVE[state]);
      node.title = reason;
    }
    $("app").classList.toggle("stale", state !== "live");
  }

  /** Draws what depends on the overview and the agents. */
  changed() {
    this.#showThreads();
    const { requests } = this.overview;
    let waiting = requests.filter((request) => request.agent === this.me).length;
    for (const each of this.overview.unread) {
      const counted = requests.filter((request) => request.agent === this.me && request.thread === each.thread && request.seq > each.read_seq);
      waiting += Math.max(0, each.addressed_count - counted.length);
    }
    $("inbox-count").hidden = !waiting;
    setText($("inbox-count"), String(waiting));
    document.title = `${waiting ? `(${waiting}) ` : ""}${$("title").textContent} · ThreadBus`;
    if (this.view === "inbox") this.inbox.show(this.overview);
    if (this.view === "agents") showAgents($("page-view"), [...this.names.values()], this);
    if (this.view === "thread") {
      this.log.showAsked();
      this.composer.suggest();
      this.#showPeople();
    }
  }

  #showThreads() {
    showThreads(this.overview.threads, this.unread, this.thread);
  }

  #showInfo() {
    const { state } = this.info;
    const [topic, stage] = [line(this.info.topic, 1024), line(this.info.stage, 63)];
    const closed = state !== "THREAD_STATE_OPEN";
    $("topic").replaceChildren(...(closed ? [el("span", { class: "badge" }, "closed"), " "] : []), ...(stage ? [el("span", { class: "badge stage" }, stage), " "] : []), topic);
    $("topic").title = topic;
    $("composer").classList.toggle("closed", closed);
    $("more").disabled = false;
    $("text").disabled = $("post").disabled = closed;
    $("text").placeholder = closed ? "This thread is closed: reopen it to write." : "Write a message…";
  }

  #showPeople() {
    if (this.drawing) return;
    this.drawing = setTimeout(() => {
      this.drawing = null;
      if (this.thread === null) return;
      const here = this.overview.requests.filter((request) => request.thread === this.thread);
      showPeople(this.people, this.log.head, here, this);
      $("show-people").dataset.requests = here.some((request) => request.overdue) ? "overdue" : here.length ? "open" : "";
      showRequests($("requests"), here, this, { empty: "Nobody owes an answer here." });
      this.composer.showTurns();
      $("join").hidden = !this.people.length && this.info === null ? true : this.me === "operator" || this.#isHere();
    }, this.people.length ? PEOPLE_PAUSE : 0);
  }

  #isHere = () => this.people.some((person) => person.agent === this.me);

  #moved() {
    const { log } = this;
    const away = !log.pinned || !log.reachesHead;
    $("newest").hidden = !away || this.info === null;
    setText($("newest"), log.behind ? `↓ ${count(log.behind, "new message")}` : "↓ Newest");
    this.#read();
  }

  /** Reports as read what the person sees: the end, if it is in sight. */
  #read() {
    if (this.reading || !this.log.seesEnd || document.visibilityState !== "visible" || this.log.head <= this.told || !this.#isHere()) return;
    this.reading = setTimeout(async () => {
      this.reading = null;
      if (this.info === null || !this.log.seesEnd) return;
      const { thread } = this;
      const { head } = this.log;
      this.told = head;
      await call("api/read", { thread, cursor: `${this.info.epoch}:${head}` }).catch(() => (this.told = 0));
    }, 800);
  }

  // ── What others ask of the page ─────────────────────────────────────────────────────────────

  participants = () => new Set(this.people.map((person) => person.agent));
  requests = (thread, seq) => this.overview.requests.filter((request) => request.thread === thread && request.seq === seq);
  /** Returns the first reply in the page of an agent that a message asks. */
  answer = ({ seq, expect_reply: { agents } }) => {
    for (const { message } of this.log.items.values()) if (message.reply_to === seq && agents.includes(message.sender)) return message;
  };
  reply = (message) => this.composer.answer(message);
  mention = (name) => this.composer.mention(name);
  openAgent = (name) => openAgent(name, this);
  changedInfo = (info) => {
    if (info.name !== this.thread) return;
    this.info = info;
    this.#showInfo();
  };
  posted = () => this.log.toEnd();
  agentsChanged = () => this.agentsWanted(0);

  withdraw = openWithdraw;

  /** Reads the agents unless they are new enough. */
  async agentsWanted(age = AGENTS_AGE) {
    if (Date.now() - this.agentsRead < age) return;
    this.agentsRead = Date.now();
    try {
      this.names = new Map((await call("api/agents")).map((agent) => [agent.name, agent]));
      this.changed();
    } catch {
      this.agentsRead = 0;
    }
  }

  /** Calls `use` with the newest wording of a message, cut as usual; undefined if there is none. */
  async peek(thread, seq, use) {
    const loaded = thread === this.thread ? this.log.items.get(seq) : undefined;
    const message = loaded?.message ?? (await this.peeks.get(thread, seq));
    use(loaded?.edit ?? (message?.edit_seq && (await this.peeks.get(thread, message.edit_seq))) ?? message);
  }

  /** Reads again what no event tells of, if it is shown. */
  async #refresh() {
    if (this.lost) return;
    if (this.view !== "waits") return this.agentsWanted();
    try {
      const waits = await call("api/waits");
      if (this.view === "waits") showWaits($("page-view"), waits);
    } catch (failure) {
      if (!failure.passing) this.problem(failure);
    }
  }

  // ── What the person does ────────────────────────────────────────────────────────────────────

  #newThread = (name = "") =>
    openNew(name, (thread) => {
      this.failed = null;
      this.thread === thread ? this.#load(thread, 0) : (location.hash = `#/${encodeURIComponent(thread)}`);
    });

  /** Opens one of the panels, if the screen is too small to show it; without a name closes both. */
  #fold(name = "") {
    if (name && !$(`show-${name}`).checkVisibility()) return $(name).querySelector("button.participant, input")?.focus();
    for (const each of ["nav", "people"]) {
      $(each).classList.toggle("open", each === name);
      $(`show-${each}`).setAttribute("aria-expanded", String(each === name));
    }
    $("veil").hidden = name === "";
    if (name) $(`close-${name}`).focus();
  }

  #neighbour(by) {
    const links = [...$("threads").querySelectorAll("a")];
    const at = links.findIndex((link) => link.getAttribute("aria-current"));
    const link = links[at + by] ?? links[at < 0 ? 0 : at];
    if (!link || link === links[at]) return;
    this.stepping = true;
    link.click();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "Escape") {
      if (this.find.isOpen) this.find.close();
      else if (!$("veil").hidden) this.#fold();
      else if (event.target.matches("textarea, input")) this.log.scroller.focus();
      return;
    }
    if (event.target.closest("input, textarea, select, dialog, [role=menu]")) return;
    const inThread = this.view === "thread" && this.info !== null;
    const keys = {
      "?": () => openHelp(),
      i: () => ((location.hash = "#/"), $("page-view").focus()),
      t: () => {
        this.#fold("nav");
        $("filter").focus();
      },
      "[": () => this.#neighbour(-1),
      "]": () => this.#neighbour(1),
      ...(inThread && {
        j: () => this.log.step(1),
        k: () => this.log.step(-1),
        r: () => this.log.focused && isMessage(this.log.focused) && this.reply(this.log.focused),
        c: () => $("text").focus(),
        "/": () => this.find.open(this.thread),
        g: () => this.menu.goTo(),
        e: () => this.#newest(),
        p: () => this.#fold("people"),
      }),
    };
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  }

  #listen() {
    const click = (id, act) => $(id).addEventListener("click", act);
    addEventListener("hashchange", () => this.#route());
    addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("visibilitychange", () => this.#read());
    click("help", () => openHelp());
    click("newest", () => this.#newest());
    click("find-button", () => this.find.open(this.thread));
    click("new-thread", () => this.#newThread());
    click("join", () => call("api/threads", { thread: this.thread }).catch((failure) => this.problem(failure)));
    for (const name of ["nav", "people"]) {
      click(`show-${name}`, () => this.#fold(name));
      click(`close-${name}`, () => (this.#fold(), $(`show-${name}`).focus()));
    }
    click("veil", () => this.#fold());
    listenToFilter(() => this.#showThreads());
    setInterval(() => document.querySelectorAll("time[data-past]").forEach((node) => setText(node, ago(node.dateTime))), 30_000);
    setInterval(() => ["agents", "waits"].includes(this.view) && document.visibilityState === "visible" && this.#refresh(), PAGE_AGE);
  }
}

new Page().start();
