// One entry of a thread as a node.

import { button, count, el, exact, gist, line, size, timeOf, visible } from "./dom.js";
import { parsed, render } from "./md.js";
import { call, threadAddress } from "./net.js";

const GROUPED = 5 * 60_000; // ms within which messages of one sender need no new heading
const MOST_LABELS = 8; // of a message
const MOST_NAME = 80; // characters of a file's name
const CHUNK = 4000; // characters of a long text in a node: the browser lays out those in sight

const is = (message, kind) => message.kind === `MESSAGE_KIND_${kind}`;

/** Whether an entry is a message: something that somebody said. */
export const isMessage = (message) => !is(message, "EDIT") && !is(message, "NOTICE") && !is(message, "THREAD");
export const isEdit = (message) => is(message, "EDIT");
const isNotice = (message) => is(message, "NOTICE");

/** A number from 0 to 11 that stays the same for a name: its colour. */
function hue(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.charCodeAt(0)) % 9973;
  return sum % 12;
}

export const avatar = (name) => el("span", { class: "avatar", "aria-hidden": "true", data: { hue: hue(name) } }, name.slice(0, 1).toUpperCase());

export const linkTo = (thread, seq) => el("a", { href: `#/${encodeURIComponent(thread)}/${seq}` }, `#${seq}`);

/** A button that opens a message. It says which, for one that listens. */
export const opener = (thread, seq) => el("a", { class: "button", href: `#/${encodeURIComponent(thread)}/${seq}`, "aria-label": `Open #${seq} in ${thread}` }, "Open");

/** Whether a message concerns an agent: mentions it, or hands its turn to it. */
export const addresses = (message, agent) => (message.mentions ?? []).includes(agent) || message.handoff_to === agent;

/** What sentences call an agent: "you" if it is the reader. One that has this very name keeps its @. */
export const called = (name, me = "") => (name === me ? "you" : name === "you" ? `@${name}` : name);

/**
 * Returns the node of an entry.
 *
 * `context`: me, operator, and what can be done: reply(message), withdraw(message),
 * peek(thread, seq, use), requests(thread, seq), answer(message). `before`: the entry before it, if
 * it is shown. Edits are shown by showEdit().
 */
export function article(message, context, before) {
  if (isMessage(message)) return spoken(message, context, before);
  const text = isEdit(message) ? [el("b", {}, message.sender), " edited ", linkTo(message.thread, message.edit_of)] : told(message, context);
  return el(
    "article",
    { class: `entry ${isNotice(message) ? "notice" : "grey"}`, tabindex: "-1", data: { seq: message.seq }, "aria-label": `Number ${message.seq}` },
    el("div", { class: "event" }, el("span", {}, text), " ", timeOf(message.create_time)),
    el("div", { class: "aside" }, own(message)),
  );
}

function told(message, { me }) {
  const text = line(message.content ?? "", 500);
  const words = text.startsWith(`${message.sender} `) || message.sender === "system" ? text : `${message.sender}: ${text}`;
  const seq = message.notice?.request_seq;
  const [before, ...after] = seq ? words.split(`message ${seq}`) : [words];
  const parts = seq ? [before, linkTo(message.thread, seq), after.join(`message ${seq}`)] : [before];
  if ((message.mentions ?? []).includes(me)) parts.unshift(el("strong", {}, "For you: "));
  return parts;
}

const own = (message) => {
  const link = linkTo(message.thread, message.seq);
  link.className = "seq";
  link.title = `Permanent link · ${exact(message.create_time)}`;
  return link;
};

function spoken(message, context, before) {
  const priority = (message.priority ?? "").replace("PRIORITY_", "").toLowerCase();
  const plain = priority === "normal" && !message.reply_to && !message.handoff_to && !message.posted_by && !message.labels;
  const grouped =
    plain && before !== undefined && isMessage(before) && before.sender === message.sender && before.sender_kind === message.sender_kind &&
    Date.parse(message.create_time) - Date.parse(before.create_time) < GROUPED;
  const loud = priority === "high" || priority === "urgent";
  const classes = ["entry", "message", grouped && "grouped", loud && priority, addresses(message, context.me) && "for-me"];
  const badge = (text, kind = "") => el("span", { class: `badge ${kind}` }, text);
  return el(
    "article",
    { class: classes.filter(Boolean).join(" "), tabindex: "-1", data: { seq: message.seq }, "aria-label": `Number ${message.seq}, ${message.sender}` },
    avatar(message.sender),
    el(
      "div",
      { class: "head" },
      el("b", { class: "sender", data: { hue: hue(message.sender) } }, message.sender),
      message.sender_kind === "AGENT_KIND_HUMAN" && badge("person", "person"),
      message.sender_kind === "AGENT_KIND_ANONYMOUS" && badge("not registered"),
      timeOf(message.create_time),
      loud && badge(priority, priority),
      priority === "low" && badge("low"),
      message.handoff_to && badge(`turn → ${called(message.handoff_to)}`),
      message.posted_by && badge(`posted by ${called(message.posted_by)}`),
      labels(message.labels ?? {}),
    ),
    el("div", { class: "aside" }, button("Reply", () => context.reply(message), { class: "quiet small reply-button", title: "Reply (r)" }), own(message)),
    message.reply_to ? quote(message, context) : null,
    el("div", { class: "body" }, body(message, context)),
    (message.attachments ?? []).length > 0 && files(message),
    (message.expect_reply?.agents ?? []).length > 0 && el("p", { class: "asks" }),
  );
}

/** Shows what became of the requests of a message. */
export function showAsked(node, message, context) {
  const place = node.querySelector(":scope > .asks");
  if (place === null) return;
  const open = context.requests(message.thread, message.seq);
  const overdue = open.some((request) => request.overdue);
  const answer = open.length ? undefined : context.answer(message);
  const state = open.length ? `open-${overdue}-${open.map((request) => request.agent)}` : `done-${answer?.seq}`;
  if (place.dataset.state === state) return;
  place.dataset.state = state;
  place.className = `asks${open.length ? " open" : ""}${overdue ? " overdue" : ""}`;
  const mine = open.some((request) => request.agent === context.me);
  const asked = `Asked ${message.expect_reply.agents.map((agent) => called(agent)).join(", ")} for a reply`;
  place.replaceChildren(
    ...(open.length
      ? [el("span", {}, `Waiting for an answer from ${open.map((request) => called(request.agent, context.me)).join(", ")}${overdue ? ", overdue" : ""}`)]
      : answer
        ? [el("span", {}, `${asked}, answered in `, linkTo(message.thread, answer.seq))]
        : [el("span", {}, `${asked}: no longer open`)]),
    ...(mine ? [" ", button("Answer", () => context.reply(message), { class: "small primary" })] : []),
    ...(open.length && (message.sender === context.me || context.operator)
      ? [" ", button("Withdraw", () => context.withdraw(message), { class: "small quiet" })]
      : []),
  );
}

function body(message, context, edit) {
  const shown = edit ?? message;
  const nodes = [text(shown, context, message)];
  if (message.edit_seq) {
    const first = el("div", { class: "first" });
    const summary = el("summary", {}, `edited in #${message.edit_seq} – ${edit ? "the first wording" : "loading the new wording"}`);
    const details = el("details", { class: "edited" }, summary, first);
    details.addEventListener("toggle", () => details.open && !first.hasChildNodes() && first.append(text(message, context)), { once: true });
    nodes.push(details);
  }
  return nodes;
}

/** Brings a message up to date after an edit. */
export function showEdit(node, message, context, edit) {
  node.querySelector(":scope > .body").replaceChildren(...body(message, context, edit));
}

/** A text; one that was cut has a button for the rest, which is shown without Markdown. */
function text(message, context, first = message) {
  const content = message.content ?? "";
  const nodes = document.createDocumentFragment();
  // Everybody that was mentioned, whether or not the agents are known by now.
  const names = new Set([...(message.mentions ?? []), ...(first.mentions ?? [])]);
  nodes.append(render(content, names, context.me, message.thread));
  if (!message.content_truncated) return nodes;
  const place = el("div", { class: "cut" });
  const show = button(`Show all (${size(message.content_size ?? 0)})`, async () => {
    show.disabled = true;
    try {
      const whole = await call(threadAddress(message.thread, `/${message.seq}`));
      place.replaceChildren(long(whole.content ?? ""));
      place.previousElementSibling?.remove();
    } catch (failure) {
      show.disabled = false;
      show.textContent = failure.sentence;
    }
  }, { class: "small" });
  place.append(show);
  const both = document.createDocumentFragment();
  both.append(el("div", {}, nodes), place);
  return both;
}

function long(content) {
  const shown = visible(content);
  const chunks = [];
  for (let at = 0; at < shown.length; at += CHUNK) chunks.push(el("span", { class: "chunk" }, shown.slice(at, at + CHUNK)));
  return el("div", { class: "long", tabindex: "0", role: "region", "aria-label": "The whole text" }, chunks);
}

/** Labels look unlike what the bus says of a message: anybody may call a message `person`. */
function labels(given) {
  const all = Object.entries(given);
  const shown = all.slice(0, MOST_LABELS).map(([key, value]) => el("code", { class: "label", title: "Label" }, line(`${key}=${value}`, 80)));
  const rest = all.slice(MOST_LABELS);
  if (rest.length) shown.push(el("span", { class: "muted", title: rest.map(([key, value]) => line(`${key}=${value}`, 80)).join("\n") }, `+ ${count(rest.length, "label")}`));
  return shown;
}

function quote(message, context) {
  const link = el("a", { class: "quote", href: `#/${encodeURIComponent(message.thread)}/${message.reply_to}` }, `↩ #${message.reply_to}`);
  context.peek(message.thread, message.reply_to, (found) => {
    if (found) link.textContent = `↩ #${message.reply_to} ${found.sender}: ${gist(found.content ?? "", 200)}`;
  });
  return link;
}

function files(message) {
  return el(
    "ul",
    { class: "files" },
    message.attachments.map((file, at) => {
      const kind = line(file.media_type ?? "", 60);
      if (file.url) {
        const url = parsed(file.url);
        const name = fileName(file.filename || file.url);
        const about = el("span", { class: "host" }, ` ${kind} · at ${url ? url.host : "another address"}`);
        return el("li", {}, url ? el("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow" }, name) : el("span", {}, name), about);
      }
      const name = fileName(file.filename || `file ${at + 1}`);
      const address = threadAddress(message.thread, `/${message.seq}/${at}`);
      return el("li", {}, el("a", { href: address, download: name, title: "Download" }, name), el("span", { class: "host" }, ` ${kind ? `${kind} · ` : ""}${size(file.size ?? 0)}`));
    }),
  );
}

/** Returns the name of a file; of a long one the beginning and the end, which says what it is. */
function fileName(given) {
  const name = line(given, 1000);
  return name.length > MOST_NAME ? `${name.slice(0, MOST_NAME - 21)}…${name.slice(-20)}` : name;
}

/** Words for one that listens: who says what. */
export const spokenWords = (message) => `${message.sender}: ${line(message.content ?? "", 120) || count((message.attachments ?? []).length, "file")}`;
