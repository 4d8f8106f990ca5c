// Beside the messages: the threads, who is here, and who owes an answer.

import { $, ago, button, count, el, exact, gist, keyed, line, setText, timeOf, word } from "./dom.js";
import { avatar, called, linkTo, opener } from "./article.js";

/** The states of the connection, in words. */
export const LIVE = {
  connecting: "connecting",
  live: "live",
  bus: "bus unreachable – messages wait until it is back",
  console: "console unreachable – trying again",
  out: "signed out",
};

const MOST_PEOPLE = 200;
const MOST_DEBTS = 3; // of one participant
const MOST_WORDS = 40; // requests of which the words are loaded
// Those that wait for a person first.
const ORDER = ["AWAITING_HUMAN", "WORKING", "WAITING", "IDLE", "UNSPECIFIED", "LAPSED", "OFFLINE"];

export const stateOf = (presence) => (presence ?? "").replace("PRESENCE_", "") || "UNSPECIFIED";
const rank = (presence) => ORDER.indexOf(stateOf(presence));

export const byPresence = (a, b) => rank(a.presence) - rank(b.presence) || (a.agent ?? a.name).localeCompare(b.agent ?? b.name);

/** Returns a dot with the presence in words. */
export function presence(value) {
  return el("span", { class: "presence", data: { state: stateOf(value) } }, word(value) === "" || stateOf(value) === "UNSPECIFIED" ? "not seen yet" : word(value));
}

/** Shows the threads that fit the filter. `unread`: a Map of ThreadUnread by thread. */
export function showThreads(threads, unread, chosen) {
  const wanted = $("filter").value.trim().toLowerCase();
  const fits = threads.filter((thread) => !wanted || thread.name.toLowerCase().includes(wanted) || thread.topic.toLowerCase().includes(wanted));
  const list = $("threads");
  keyed(
    list,
    fits,
    (thread) => thread.name,
    (thread) =>
      el("li", {}, el("a", { href: `#/${encodeURIComponent(thread.name)}` },
        el("span", { class: "row" }, el("span", { class: "thread-name" }, thread.name), el("span", { class: "count", hidden: true }), el("span", { class: "unseen" }), el("span", { class: "when muted" })),
        el("span", { class: "about muted" }))),
    (node, thread) => {
      const link = node.firstChild;
      const [name, badge, unseen, when] = link.firstChild.children;
      const news = unread.get(thread.name);
      const fresh = news ? news.head_seq - news.read_seq : 0;
      if (thread.name === chosen) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
      link.classList.toggle("closed", thread.state !== "THREAD_STATE_OPEN");
      link.classList.toggle("unread", fresh > 0);
      setText(name, thread.name);
      link.title = [thread.name, line(thread.topic, 300)].filter(Boolean).join("\n");
      badge.hidden = !fresh;
      badge.classList.toggle("for-me", (news?.addressed_count ?? 0) > 0);
      setText(badge, fresh > 999 ? "999+" : String(fresh));
      badge.title = news?.addressed_count ? `${count(news.addressed_count, "message")} for you` : "unread";
      setText(unseen, !fresh ? "" : news.addressed_count ? `unread, ${badge.title}` : "unread");
      setText(when, ago(thread.update_time));
      setText(link.lastChild, line([thread.state === "THREAD_STATE_OPEN" ? "" : "closed", thread.stage, thread.topic].filter(Boolean).join(" · "), 120));
    },
  );
  if (!fits.length) list.append(el("li", { class: "empty", data: { key: " " } }, threads.length ? "No such thread here. Enter opens it by name." : "No threads yet. Begin one with New thread."));
}

/** Lets the filter choose threads. `changed()` shows them; Enter opens the first, or the one of this very name. */
export function listenToFilter(changed) {
  $("filter").addEventListener("input", changed);
  $("filter").addEventListener("keydown", (event) => {
    const name = event.target.value.trim();
    if (event.key !== "Enter" || !name) return;
    const found = [...$("threads").querySelectorAll("a")].map((link) => link.hash);
    const typed = `#/${encodeURIComponent(name)}`;
    location.hash = found.length && !found.includes(typed) ? found[0] : typed;
  });
}

/** Shows the participants of a thread. `context`: me, names, openAgent(name). */
export function showPeople(participants, head, requests, context) {
  const people = [...participants].sort(byPresence);
  const list = $("participants");
  keyed(
    list,
    people.slice(0, MOST_PEOPLE),
    (person) => person.agent,
    (person) =>
      el("li", {}, el("button", { type: "button", class: "participant", onclick: () => context.openAgent(person.agent) }, avatar(person.agent), el("span", { class: "who" }, person.agent), el("span", { class: "slot" })),
        el("p", { class: "doing" }), el("p", { class: "debts" }), el("div", { class: "progress" }, el("div", { class: "track", "aria-hidden": "true" }, el("span", {})), el("p", { class: "read muted" }))),
    (node, person) => {
      const state = stateOf(person.presence);
      if (node.dataset.state !== state) {
        node.dataset.state = state;
        node.querySelector(".slot").replaceChildren(presence(person.presence));
      }
      node.firstChild.title = `${person.agent}: more`;
      setText(node.querySelector(".who"), `${person.agent}${person.agent === context.me ? " (you)" : ""}`);
      const agent = context.names.get(person.agent);
      const doing = [person.kind === "AGENT_KIND_HUMAN" && person.agent !== context.me && "person", agent?.status_text && line(agent.status_text, 120)];
      setText(node.querySelector(".doing"), doing.filter(Boolean).join(" · "));
      showDebts(node.querySelector(".debts"), person.agent, requests, context.me);
      node.querySelector(".track span").style.setProperty("width", `${head ? Math.min(100, (100 * person.read_seq) / head) : 100}%`);
      setText(node.querySelector(".read"), readWords(person.read_seq, head));
    },
  );
  if (!people.length) list.append(el("li", { class: "empty", data: { key: " " } }, "Nobody yet. Those who post or are mentioned appear here."));
}

/** Says what a participant owes, and what it waits for, with links. */
function showDebts(place, agent, requests, me) {
  const debts = requests.filter((request) => request.agent === agent);
  const claims = requests.filter((request) => request.asker === agent);
  const key = [...debts, ...claims].map((each) => `${each.agent} ${each.seq} ${each.overdue}`).join();
  if (place.dataset.shown === key) return;
  place.dataset.shown = key;
  place.replaceChildren(
    ...debts.slice(0, MOST_DEBTS).map((each) => el("span", { class: each.overdue ? "debt overdue" : "debt" }, `owes ${called(each.asker, me)} an answer to `, linkTo(each.thread, each.seq), each.overdue && ", overdue")),
    ...claims.slice(0, MOST_DEBTS).map((each) => el("span", { class: "claim" }, `waits for ${called(each.agent, me)}: `, linkTo(each.thread, each.seq))),
  );
}

function readWords(read, head) {
  if (read >= head) return "has read all";
  return read ? `${(head - read).toLocaleString()} behind` : `has read none of ${head.toLocaleString()}`;
}

/** Shows in a request's node whether it is overdue, or when it is due. */
export function showDue(node, request) {
  node.classList.toggle("overdue", request.overdue ?? false);
  const due = node.querySelector(".due");
  setText(due, request.overdue ? " · overdue" : request.due_time ? ` · due in ${ago(request.due_time).replace("now", "less than 1 min")}` : "");
  due.title = request.due_time ? exact(request.due_time) : "";
}

/**
 * Shows open requests in a list, those first that are overdue. `context`: me, operator, peek(thread,
 * seq, use), withdraw(request); `empty`: what to say of none.
 */
export function showRequests(list, requests, context, { empty, withThread = false }) {
  const sorted = [...requests].sort((a, b) => b.overdue - a.overdue);
  const spoken = new Set(sorted.slice(0, MOST_WORDS));
  keyed(
    list,
    sorted,
    (request) => `${request.thread} ${request.epoch} ${request.seq} ${request.agent}`,
    (request) => {
      const mine = request.asker === context.me;
      const said = [
        el("p", {}, el("b", {}, mine ? "You" : called(request.asker)), mine ? " wait for " : " waits for ", el("b", {}, called(request.agent, context.me))),
        el("p", { class: "words", dir: "auto" }),
        el("p", { class: "muted" }, withThread && [el("span", {}, request.thread), " "], linkTo(request.thread, request.seq), " · ", timeOf(request.create_time, true), el("span", { class: "due" })),
        (mine || context.operator) && button("Withdraw", () => context.withdraw(request), { class: "small quiet" }),
      ];
      if (!withThread) return el("li", {}, said);
      return el("li", { class: "card" }, avatar(request.asker), el("div", {}, said), opener(request.thread, request.seq));
    },
    (node, request) => {
      if (spoken.has(request) && !node.dataset.spoken) {
        node.dataset.spoken = "yes";
        context.peek(request.thread, request.seq, (found) => found && setText(node.querySelector(".words"), gist(found.content ?? "", 160)));
      }
      showDue(node, request);
    },
  );
  if (!requests.length) list.append(el("li", { class: "empty", data: { key: " " } }, empty));
}
