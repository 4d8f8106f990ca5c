// Beside the messages: the threads, who is here, and who owes an answer.

import { $, ago, button, count, el, exact, keyed, line, setText, timeOf, word } from "./dom.js";
import { avatar, linkTo } from "./article.js";

const MOST_PEOPLE = 200;
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
        el("span", { class: "row" }, el("span", { class: "thread-name" }, thread.name), el("span", { class: "count", hidden: true }), el("span", { class: "when muted" })),
        el("span", { class: "about muted" }))),
    (node, thread) => {
      const link = node.firstChild;
      const [name, badge, when] = link.firstChild.children;
      const news = unread.get(thread.name);
      const fresh = news ? news.head_seq - news.read_seq : 0;
      if (thread.name === chosen) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
      link.classList.toggle("closed", thread.state !== "THREAD_STATE_OPEN");
      link.classList.toggle("unread", fresh > 0);
      setText(name, thread.name);
      badge.hidden = !fresh;
      badge.classList.toggle("for-me", (news?.addressed_count ?? 0) > 0);
      setText(badge, fresh > 999 ? "999+" : String(fresh));
      badge.title = news?.addressed_count ? `${count(news.addressed_count, "message")} for you` : "unread";
      setText(when, ago(thread.update_time));
      setText(link.lastChild, line([thread.state === "THREAD_STATE_OPEN" ? "" : "closed", thread.stage, thread.topic].filter(Boolean).join(" · "), 120));
    },
  );
  if (!fits.length) list.append(el("li", { class: "empty", data: { key: " " } }, threads.length ? "No such thread here. Enter opens it by name." : "No threads yet. Begin one with New thread."));
}

/** Shows the participants of a thread. `context`: me, names, openAgent(name). */
export function showPeople(participants, head, requests, context) {
  const people = [...participants].sort(byPresence);
  const owes = new Map();
  for (const request of requests) owes.set(request.agent, [...(owes.get(request.agent) ?? []), request]);
  const list = $("participants");
  keyed(
    list,
    people.slice(0, MOST_PEOPLE),
    (person) => person.agent,
    (person) =>
      el("li", {}, el("button", { type: "button", class: "person", onclick: () => context.openAgent(person.agent), title: "More" }, avatar(person.agent), el("span", { class: "who" }, person.agent), el("span", { class: "slot" })),
        el("p", { class: "doing" }), el("div", { class: "track", "aria-hidden": "true" }, el("span", {})), el("p", { class: "read muted" })),
    (node, person) => {
      const state = stateOf(person.presence);
      if (node.dataset.state !== state) {
        node.dataset.state = state;
        node.querySelector(".slot").replaceChildren(presence(person.presence));
      }
      setText(node.querySelector(".who"), `${person.agent}${person.agent === context.me ? " (you)" : ""}`);
      const agent = context.names.get(person.agent);
      const debts = owes.get(person.agent) ?? [];
      const doing = [
        person.kind === "AGENT_KIND_HUMAN" && person.agent !== context.me && "person",
        agent?.status_text && line(agent.status_text, 120),
        debts.length && `owes ${debts.slice(0, 3).map((each) => `${each.asker} #${each.seq}`).join(", ")}`,
      ];
      setText(node.querySelector(".doing"), doing.filter(Boolean).join(" · "));
      node.querySelector(".track span").style.setProperty("width", `${head ? Math.min(100, (100 * person.read_seq) / head) : 100}%`);
      setText(node.querySelector(".read"), readWords(person.read_seq, head));
    },
  );
  if (!people.length) list.append(el("li", { class: "empty", data: { key: " " } }, "Nobody yet. Those who post or are mentioned appear here."));
}

function readWords(read, head) {
  if (read >= head) return "has read all";
  return read ? `has read #${read}, ${(head - read).toLocaleString()} behind` : `has read none of ${head.toLocaleString()}`;
}

/** Shows open requests in a list. `context`: me, operator, withdraw(request), empty: what to say of none. */
export function showRequests(list, requests, context, { empty, withThread = false }) {
  keyed(
    list,
    requests,
    (request) => `${request.thread} ${request.epoch} ${request.seq} ${request.agent}`,
    (request) =>
      el("li", {}, el("p", {}, el("b", {}, request.asker === context.me ? "You" : request.asker), " waits for ".replace("waits", request.asker === context.me ? "wait" : "waits"), el("b", {}, request.agent === context.me ? "you" : request.agent)),
        el("p", { class: "muted" }, withThread && [el("span", {}, request.thread), " "], linkTo(request.thread, request.seq), " · ", timeOf(request.create_time, true), el("span", { class: "due" })),
        (request.asker === context.me || context.operator) && button("Withdraw", () => context.withdraw(request), { class: "small quiet" })),
    (node, request) => {
      node.classList.toggle("overdue", request.overdue);
      setText(node.querySelector(".due"), request.overdue ? " · overdue" : request.due_time ? ` · due in ${ago(request.due_time).replace("now", "less than 1 min")}` : "");
      node.querySelector(".due").title = request.due_time ? exact(request.due_time) : "";
    },
  );
  if (!requests.length) list.append(el("li", { class: "empty", data: { key: " " } }, empty));
}
