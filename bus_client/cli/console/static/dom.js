// Builds the page out of DOM nodes. Nothing here, or elsewhere, parses HTML.

export const $ = (id) => document.getElementById(id);

/**
 * Returns a new element. In `props`, on… are listeners, functions of the event; `data` is a
 * dataset; true and false set and omit an attribute; anything else is an attribute. Children are
 * nodes or texts; null and false are skipped.
 */
export function el(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const button = (text, onclick, props) => el("button", { type: "button", onclick, ...props }, text);

/** Sets a text only if it is another one, so that screen readers do not read it again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Makes the children of `parent` those of `items`, in order, and reuses the nodes of the same keys:
 * the focus and the scroll position stay. `make(item)` returns a new node, `show(node, item)` brings
 * it up to date.
 */
export function keyed(parent, items, key, make, show) {
  const old = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let node = old.get(name);
    if (node === undefined) {
      node = make(item);
      node.dataset.key = name;
    }
    old.delete(name);
    show?.(node, item);
    if (node === at) at = at.nextElementSibling;
    else {
      const focused = node.contains(document.activeElement) ? document.activeElement : null;
      parent.insertBefore(node, at);
      focused?.focus({ preventScroll: true }); // a node that moves loses it
    }
  }
  for (const node of old.values()) node.remove();
}

// ── Texts of others ───────────────────────────────────────────────────────────────────────────

// Characters that reverse the reading order, break lines or are invisible, as in the terminal:
// see bus_client/cli/text.py. Joiners in scripts that use them, and in emoji, stay.
const UNSAFE =
  "\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f" +
  "\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufffb" +
  "\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}";
const EMOJI = "\\u2190-\\u21ff\\u2300-\\u23ff\\u25a0-\\u27bf\\u2b00-\\u2bff\\u{1f000}-\\u{1faff}";
const SYMBOL = EMOJI + "#*0-9\\u00a9\\u00ae\\u203c\\u2049\\u2122\\u2139\\u24c2\\u2934\\u2935\\u3030\\u303d\\u3297\\u3299";
const JOINED = "\\u0620-\\u08ff\\u0900-\\u0dff\\u1000-\\u109f\\u1780-\\u17b3\\u17b6-\\u17ff\\u1820-\\u18af";
const SHOWN = new RegExp(
  `((?<=[${SYMBOL}])[\\ufe0e\\ufe0f]|(?<=[${EMOJI}]\\ufe0f?)\\u200d(?=[${EMOJI}])|(?<=[${JOINED}])[\\u200c\\u200d])` +
    `|[${UNSAFE}]`,
  "gu",
);
const STACKED = /(\p{M}{8})\p{M}+/gu; // marks upon marks, which cover the lines around them
const PLAIN = /^[\t\n\x20-\x7e]*$/;

/** Returns the text with codes such as \u202e for characters that one does not see, or not where they are. */
export function visible(text) {
  if (PLAIN.test(text)) return text;
  return text
    .replaceAll("\r\n", "\n")
    .replace(STACKED, "$1…")
    .replace(SHOWN, (found, harmless) => (harmless ? found : code(found.codePointAt(0))));
}

function code(point) {
  const hex = point.toString(16);
  return point < 0x100 ? `\\x${hex.padStart(2, "0")}` : point < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
}

/** Returns the text as one line, made visible; cut after `most` characters. */
export function line(text, most = 300) {
  const flat = visible(text.slice(0, most + 1).replace(/\s+/g, " ")).trim();
  return text.length > most ? `${flat.slice(0, most)}…` : flat;
}

const FENCED = /^ {0,3}(```|~~~)[^]*?(?:^ {0,3}\1|$(?![^]))/gm;

/** Returns the beginning of a text as one line, without code blocks and the marks of Markdown. */
export function gist(text, most) {
  const start = text.slice(0, 2000);
  const prose = start.replace(FENCED, " ").replace(/^ {0,3}(?:#{1,6}|>)[ \t]+/gm, "").replace(/\*\*|`/g, "");
  return line(prose.trim() ? prose : start, most);
}

// ── Times and numbers ─────────────────────────────────────────────────────────────────────────

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

export const day = (time) => (valid(time) ? DAY.format(new Date(time)) : "");

export const exact = (time) => (valid(time) ? EXACT.format(new Date(time)) : "time unknown");

function valid(time) {
  return typeof time === "string" && !Number.isNaN(Date.parse(time));
}

/** Returns a <time>: the clock, or with `past` how long ago; the exact time on hover. */
export function timeOf(time, past = false) {
  if (!valid(time)) return el("span", {}, "");
  const at = new Date(time);
  const node = el("time", { datetime: at.toISOString(), title: EXACT.format(at) }, past ? ago(time) : CLOCK.format(at));
  if (past) node.dataset.past = "";
  return node;
}

/** Returns how long ago a time is, such as `3 min`; of one to come, how long until then. */
export function ago(time) {
  if (!valid(time)) return "";
  const seconds = Math.abs(Date.now() - Date.parse(time)) / 1000;
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** Returns a number with its noun, such as `1 message`. */
export const count = (number, noun) => `${number.toLocaleString()} ${noun}${number === 1 ? "" : "s"}`;

export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Returns the value of an enum in words, such as `awaiting human`. */
export const word = (value) => (value ?? "").replace(/^[A-Z]+(_[A-Z]+)?_(?=(WAITING|WORKING|IDLE|AWAITING_HUMAN|LAPSED|OFFLINE)$)/, "").toLowerCase().replaceAll("_", " ");

// ── Dialogs ───────────────────────────────────────────────────────────────────────────────────

/**
 * Opens a dialog. `act` is called when `action` is pressed; the dialog closes unless it returns
 * false, and shows the message of an error that it throws. Without `action` there is only Close.
 */
export function openDialog(title, body, { action, act, danger } = {}) {
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const dialog = el("dialog", { class: "dialog", "aria-label": title });
  const run = async () => {
    ok.disabled = true;
    try {
      if ((await act()) !== false) dialog.close();
    } catch (error) {
      problem.hidden = false;
      problem.textContent = error.sentence ?? String(error);
    }
    ok.disabled = false;
  };
  const ok = action && button(action, run, { class: danger ? "danger" : "primary" });
  dialog.append(
    el("h2", {}, title),
    ...[body].flat(),
    problem,
    el("div", { class: "buttons" }, button(action ? "Cancel" : "Close", () => dialog.close()), ok),
  );
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("input") && ok) run();
    event.stopPropagation();
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

let announced = 0;
let waiting = null;

/** Tells screen readers a sentence, at most one in three seconds: the latest. */
export function announce(text) {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    announced = Date.now();
    $("announce").textContent = text;
  }, Math.max(100, announced + 3000 - Date.now()));
}
