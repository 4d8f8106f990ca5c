// The pages beside the threads: the inbox, and for operators all agents and open waits.

import { addresses, avatar, linkTo, opener } from "./article.js";
import { $, button, el, gist, keyed, line, openDialog, setText, timeOf, word } from "./dom.js";
import { call, threadAddress } from "./net.js";
import { byPresence, presence, showDue, showRequests, stateOf } from "./side.js";

const MOST_THREADS = 12; // whose mentions are loaded
const MOST_MENTIONS = 20; // shown of a thread
const PAGE = 200; // messages that are looked through at once

/** The inbox: what is asked of the reader, what mentions them, and which agents need a person. */
export class Inbox {
  constructor(context) {
    this.context = context;
    this.mentions = new Map(); // by thread: {key, messages}
    const section = (title, list) => el("section", {}, el("h2", {}, title), list);
    this.welcome = el("div", { class: "welcome", hidden: true }, el("p", {}, el("b", {}, "No threads yet.")), el("p", { class: "muted" }, "Begin one with New thread, or let an agent post:"), el("pre", { tabindex: "0" }, el("code", {}, 'threadbus post design "Is the draft ready?" --as coder')));
    this.asked = el("ul", { class: "cards" });
    this.named = el("ul", { class: "cards" });
    this.stuck = el("ul", { class: "cards" });
    this.others = el("ul", { class: "cards requests" });
    this.node = el("div", { class: "inbox" }, this.welcome, section("Asked of you", this.asked), section("Mentions", this.named), section("Agents that need a person", this.stuck), section("Who waits for whom", this.others));
  }

  show(overview) {
    const { me } = this.context;
    this.welcome.hidden = overview.threads.length > 0 || !overview.live;
    const mine = overview.requests.filter((request) => request.agent === me);
    this.#cards(this.asked, mine.map((request) => ({ ...request, sender: request.asker, time: request.create_time })), "Nobody is waiting for an answer from you.");
    this.#load(overview.unread.filter((each) => each.addressed_count > 0).slice(0, MOST_THREADS));
    const asked = new Set(mine.map((request) => `${request.thread} ${request.seq}`));
    const found = [...this.mentions.values()].flatMap(({ messages }) => messages).filter((message) => !asked.has(`${message.thread} ${message.seq}`));
    this.#cards(this.named, found.map((message) => ({ ...message, time: message.create_time })), "Nothing unread mentions you.");
    const stuck = [...this.context.names.values()].filter((agent) => stateOf(agent.presence) === "AWAITING_HUMAN");
    keyed(this.stuck, stuck, (agent) => agent.name, (agent) => el("li", { class: "card waiting" }, avatar(agent.name), el("div", {}, el("p", { class: "line" }, el("b", {}, agent.name), presence(agent.presence)), el("p", { class: "words" })), el("a", { class: "button", href: "#/" }, "Open")), (node, agent) => {
      setText(node.querySelector(".words"), line(agent.status_text || "It has not said what it needs. Find it in its thread.", 200));
      const asks = overview.requests.find((request) => request.asker === agent.name);
      node.lastChild.hidden = !asks;
      if (asks) node.lastChild.href = `#/${encodeURIComponent(asks.thread)}/${asks.seq}`;
    });
    empty(this.stuck, stuck, "No agent waits for a person.");
    showRequests(this.others, overview.requests.filter((request) => request.agent !== me), this.context, { empty: "Nobody is waiting for an answer.", withThread: true });
  }

  #cards(list, cards, none) {
    keyed(
      list,
      cards,
      (card) => `${card.thread} ${card.seq}`,
      (card) => {
        const words = el("p", { class: "words", dir: "auto" }, card.content ? gist(card.content, 240) : "");
        if (!card.content) this.context.peek(card.thread, card.seq, (found) => found && (words.textContent = gist(found.content ?? "", 240)));
        return el("li", { class: "card" }, avatar(card.sender), el("div", {},
          el("p", { class: "line" }, el("b", {}, card.sender), el("span", { class: "muted" }, "in ", card.thread, " ", linkTo(card.thread, card.seq)), el("span", { class: "muted" }, timeOf(card.time, true), el("span", { class: "due" }))),
          words), opener(card.thread, card.seq));
      },
      showDue,
    );
    empty(list, cards, none);
  }

  async #load(unread) {
    const { me } = this.context;
    for (const thread of this.mentions.keys()) if (!unread.some((each) => each.thread === thread)) this.mentions.delete(thread);
    for (const { thread, head_seq, read_seq, addressed_count } of unread) {
      const key = `${head_seq} ${read_seq} ${addressed_count}`;
      if (this.mentions.get(thread)?.key === key) continue;
      const known = this.mentions.get(thread)?.messages ?? [];
      this.mentions.set(thread, { key, messages: known });
      try {
        let messages = [];
        // Those after what was read, and if none of them is meant, the newest.
        for (const query of [`?around=${read_seq + 1 + PAGE / 2}&limit=${PAGE}`, `?limit=${PAGE}`]) {
          const page = await call(threadAddress(thread, query));
          const mine = new Set(page.messages.filter((message) => message.sender === me).map((message) => message.seq));
          messages = page.messages.filter((message) => message.seq > read_seq && message.sender !== me && (addresses(message, me) || mine.has(message.reply_to)));
          if (messages.length) break;
        }
        this.mentions.set(thread, { key, messages: messages.slice(-MOST_MENTIONS).reverse() });
      } catch {
        this.mentions.delete(thread); // the next overview asks again
        return;
      }
      this.context.changed();
    }
  }
}

function empty(list, items, text) {
  if (!items.length) list.append(el("li", { class: "empty", data: { key: " " } }, text));
}

/**
 * Shows items as the rows of a table, which becomes the content of `page` if it is not. What stays
 * as it is keeps its nodes, and so the focus. `cells(item)`: the contents of a row's cells.
 */
function showTable(page, caption, heads, items, key, cells, none) {
  if (!items.length) return page.replaceChildren(el("p", { class: "empty" }, none));
  let body = page.querySelector("tbody");
  if (body === null) {
    body = el("tbody");
    const head = el("tr", {}, heads.map((text) => el("th", { scope: "col" }, text)));
    page.replaceChildren(el("div", { class: "table", tabindex: "0", role: "region", "aria-label": caption }, el("table", {}, el("thead", {}, head), body)));
  }
  keyed(body, items, key, () => el("tr"), (row, item) => {
    cells(item).forEach((content, at) => {
      const cell = el("td", { class: heads[at] === "About" || heads[at] === "After" ? "words" : null }, content);
      if (!row.cells[at]) row.append(cell);
      else if (!row.cells[at].isEqualNode(cell)) row.cells[at].replaceWith(cell);
    });
  });
}

/** Shows all agents, and how many there are. For operators. */
export function showAgents(page, agents, context) {
  const stuck = agents.filter((agent) => stateOf(agent.presence) === "AWAITING_HUMAN").length;
  setText($("topic"), `${agents.length.toLocaleString()} registered${stuck ? `, ${stuck.toLocaleString()} awaiting a person` : ""}`);
  const cells = (agent) => [el("span", { class: "named" }, avatar(agent.name), button(agent.name, () => context.openAgent(agent.name), { class: "link" })), agent.kind === "AGENT_KIND_HUMAN" ? "person" : "agent", presence(agent.presence), timeOf(agent.last_seen_time, true), line(agent.status_text || agent.description || "", 160)];
  showTable(page, "All agents", ["Name", "Kind", "State", "Last seen", "About"], [...agents].sort(byPresence), (agent) => agent.name, cells, "No agent is registered. Agents register themselves when they join.");
}

/** Shows all open waits. For operators. */
export function showWaits(page, waits) {
  const cells = (wait) => [el("span", { class: "named" }, avatar(wait.agent || "?"), wait.agent || "anonymous"), waited(wait), timeOf(wait.start_time, true), wait.peer];
  showTable(page, "All open waits", ["Who", "After", "Since", "From"], waits, (wait) => `${wait.agent} ${wait.start_time} ${wait.peer}`, cells, "Nobody waits. Agents that call bus_wait or `threadbus wait` appear here.");
}

function waited(wait) {
  const threads = (wait.threads ?? []).slice(0, 20).map((each, at) => [at ? ", " : "", `${each.thread} `, linkTo(each.thread, each.after_seq ?? 0)]);
  return wait.all_my_threads ? ["all its threads ", threads].flat(2) : threads.flat();
}

/** Says what an agent is; operators can end its session or give it a new token. */
export function openAgent(name, context) {
  const agent = context.names.get(name);
  const here = context.people.find((person) => person.agent === name); // known sooner
  const rows = [
    ["State", presence((here ?? agent)?.presence)],
    ["Doing", agent?.status_text && line(agent.status_text, 256)],
    ["Shown as", agent?.display_name && line(agent.display_name, 128)],
    ["About", agent?.description && line(agent.description, 1024)],
    ["Kind", word(agent?.kind).replace("agent kind ", "").replace("human", "person") || "not registered"],
    ["Last seen", timeOf(agent?.last_seen_time)],
    ["Registered", timeOf(agent?.create_time)],
  ].filter(([, value]) => value && value.textContent !== "");
  const more = el("div", { class: "buttons start" });
  const open = context.overview.requests.filter((request) => request.agent === name || request.asker === name);
  const requests = el("ul", { class: "requests", "aria-label": "Open requests", onclick: (event) => event.target.closest("a") && dialog.close() });
  if (open.length) showRequests(requests, open, context, { empty: "", withThread: true });
  const dialog = openDialog(name, [el("dl", {}, rows.map(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]).flat()), open.length > 0 && [el("h3", {}, "Open requests"), requests], more].flat().filter(Boolean));
  if (context.thread !== null && name !== context.me) more.append(button("Mention", () => (dialog.close(), context.mention(name))));
  if (!context.operator || name === context.me) return;
  const address = `api/agents/${encodeURIComponent(name)}`;
  more.append(
    button("End its session", () => (dialog.close(), openDialog(`End the session of ${name}?`, el("p", {}, "It is shown as offline until its next call. Messages and positions stay."), { action: "End session", danger: true, act: () => call(address, { action: "kick" }).then(context.agentsChanged) })), { class: "danger" }),
    button("New token", () => (dialog.close(), openDialog(`A new token for ${name}?`, el("p", {}, "Its old token ends at once: programs that use it are signed out."), { action: "New token", danger: true, act: async () => showToken(name, (await call(address, { action: "reset" })).token) })), { class: "danger" }),
  );
}

/** Asks whether to withdraw the requests of a message. */
export function openWithdraw({ thread, seq }) {
  openDialog(`Withdraw the request of #${seq}?`, el("p", {}, "Those asked need not answer it any more."), { action: "Withdraw", act: () => call("api/withdraw", { thread, seq }) });
}

function showToken(name, token) {
  const field = el("input", { readonly: true, value: token, "aria-label": `The token of ${name}` });
  const dialog = openDialog(`The token of ${name}`, [el("p", {}, "It is shown only now. Where the agent runs, ", el("code", {}, "threadbus login"), " stores it."), field]);
  dialog.querySelector("input").select();
}

/** Asks for the name and the topic of a new thread. `created(name)` is called once it is there. */
export function openNew(name, created) {
  const named = el("input", { id: "new-name", value: name, placeholder: "release-2.4", maxlength: 128, autocomplete: "off", spellcheck: "false" });
  const topic = el("input", { id: "new-topic", placeholder: "What it is about (optional)", autocomplete: "off" });
  openDialog("New thread", [el("label", {}, "Name", named), el("label", {}, "Topic", topic)], {
    action: "Create",
    act: async () => created((await call("api/threads", { thread: named.value.trim(), topic: topic.value.trim() })).thread.name),
  });
}

const KEYS = [
  ["j, k", "next or previous message"],
  ["r", "reply to the message in focus"],
  ["c", "write a message"],
  ["Ctrl+Enter", "post"],
  ["/", "find in this thread"],
  ["g", "go to a message by number"],
  ["e", "newest message"],
  ["[, ]", "previous or next thread"],
  ["t", "filter threads; Enter opens the first"],
  ["i", "inbox"],
  ["p", "people and requests"],
  ["Escape", "close what is open"],
  ["?", "this help"],
];

export function openHelp() {
  openDialog("Keyboard", [
    el("dl", { class: "keys" }, KEYS.map(([key, what]) => [el("dt", {}, key.split(", ").map((each) => el("kbd", {}, each))), el("dd", {}, what)]).flat()),
    el("p", { class: "muted" }, "Messages may have Markdown: **bold**, *italic*, `code`, lists, quotes, tables, links, @names and #numbers."),
  ]);
}
