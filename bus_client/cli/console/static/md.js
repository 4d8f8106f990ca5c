// Markdown as DOM nodes. Made for texts of strangers: no HTML, no images, and bounds on everything.
// All that agents read is shown: no markup hides a part of a text.
// Each quantifier is bounded or can match in one way only, so no text takes long.

import { el, visible } from "./dom.js";

const MOST_NODES = 3000; // of one text; what follows is shown as it is
const DEEPEST = 5; // quotes, lists and emphasis in each other
const MOST_CELLS = 24; // of a row; the last one has the rest

const FENCE = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)/;
const RULE = /^ {0,3}(?:(?:\* *){3,}|(?:- *){3,}|(?:_ *){3,})$/;
const QUOTE = /^ {0,3}>/;
const ITEM = /^([ \t]{0,20})([-*+]|\d{1,9}[.)])[ \t]+(?=\S)/;
const INLINE = new RegExp(
  [
    "\\\\([!-\\/:-@[-`{-~])", // 1 an escaped character
    "(`{1,16})(?!`)", // 2 the start of code
    "\\[([^\\[\\]\\n]{1,100})\\]\\((https?:\\/\\/[^\\s()<>]{1,1000})\\)", // 3, 4 a link
    "(https?:\\/\\/[^\\s<>\"`]{1,1000})", // 5 an address
    "\\*\\*(?=\\S)([^\\n]{1,300}?)\\*\\*", // 6 bold
    "~~(?=\\S)([^~\\n]{1,300})~~", // 7 struck
    "\\*(?=\\S)([^*\\n]{1,300})\\*", // 8 italic
    "(?<![\\w_])_(?=\\S)([^_\\n]{1,300})_(?![\\w_])", // 9 italic
    "(?<![\\w.@+%-])@([A-Za-z0-9][A-Za-z0-9._-]{0,62})", // 10 a name
    "(?<![\\w\\/&#.-])#([1-9][0-9]{0,14})(?![\\w-])", // 11 a message
  ].join("|"),
  "g",
);

/**
 * Returns the nodes of a text.
 *
 * `names`: has(name), the agents that are mentioned; `me`: the reader; `thread`: where #12 leads.
 */
export function render(text, names, me, thread) {
  const fragment = document.createDocumentFragment();
  new Writer(names, me, thread).blocks(fragment, visible(text).split("\n"), 0);
  return fragment;
}

class Writer {
  constructor(names, me, thread) {
    Object.assign(this, { names, me, thread, left: MOST_NODES });
  }

  add(parent, tag, props, ...children) {
    this.left -= 1;
    const node = el(tag, props, ...children);
    parent.append(node);
    return node;
  }

  blocks(parent, lines, depth) {
    let at = 0;
    while (at < lines.length) {
      if (this.left <= 0) {
        parent.append(el("p", { class: "raw" }, lines.slice(at).join("\n")));
        return;
      }
      const text = lines[at];
      let found;
      if (!text.trim()) at += 1;
      else if ((found = FENCE.exec(text))) at = this.fence(parent, lines, at, found);
      else if ((found = HEADING.exec(text))) {
        this.inline(this.add(parent, "p", { class: `heading h${found[1].length}` }), found[2], depth);
        at += 1;
      } else if (RULE.test(text)) {
        this.add(parent, "hr");
        at += 1;
      } else if (QUOTE.test(text) && depth < DEEPEST) at = this.quote(parent, lines, at, depth);
      else if (ITEM.test(text) && depth < DEEPEST) at = this.list(parent, lines, at, depth);
      else if (isTable(lines, at)) at = this.table(parent, lines, at, depth);
      else at = this.paragraph(parent, lines, at, depth);
    }
  }

  fence(parent, lines, at, [, mark, info]) {
    if (info.trim()) this.add(parent, "p", { class: "host" }, info.trim());
    let end = at + 1;
    const closes = (text) => text.trimStart().startsWith(mark) && !text.trim().replaceAll(mark[0], "");
    while (end < lines.length && !closes(lines[end])) end += 1;
    const code = el("code", {}, lines.slice(at + 1, end).join("\n"));
    this.add(parent, "pre", { tabindex: "0", role: "region", "aria-label": "Code" }, code);
    return end + 1;
  }

  quote(parent, lines, at, depth) {
    const inner = [];
    while (at < lines.length && QUOTE.test(lines[at])) {
      inner.push(lines[at].replace(/^ {0,3}> ?/, ""));
      at += 1;
    }
    this.blocks(this.add(parent, "blockquote"), inner, depth + 1);
    return at;
  }

  /** A list ends at a line that is neither an item nor indented. */
  list(parent, lines, at, depth) {
    const indent = ITEM.exec(lines[at])[1].length;
    const number = /\d/.test(ITEM.exec(lines[at])[2]);
    const start = number ? Number.parseInt(lines[at].trim(), 10) : 1;
    const list = this.add(parent, number ? "ol" : "ul", number && start !== 1 ? { start } : {});
    while (at < lines.length && this.left > 0) {
      const found = ITEM.exec(lines[at]);
      if (!found || found[1].length > indent + 1 || /\d/.test(found[2]) !== number) break;
      const inner = [lines[at].slice(found[0].length).replace(/^\[( |x|X)\] /, (_, mark) => (mark === " " ? "☐ " : "☑ "))];
      at += 1;
      while (at < lines.length && lines[at].trim() && /^[ \t]{2,}/.test(lines[at])) {
        const nested = ITEM.exec(lines[at]);
        if (nested && nested[1].length <= indent + 1) break;
        inner.push(lines[at].slice(2));
        at += 1;
      }
      this.blocks(this.add(list, "li"), inner, depth + 1);
    }
    return at;
  }

  table(parent, lines, at, depth) {
    const body = el("tbody");
    const head = this.add(el("thead"), "tr");
    for (const cell of cells(lines[at])) this.inline(this.add(head, "th", { scope: "col" }), cell, depth);
    at += 2;
    while (at < lines.length && lines[at].includes("|") && this.left > 0) {
      const row = this.add(body, "tr");
      for (const cell of cells(lines[at])) this.inline(this.add(row, "td"), cell, depth);
      at += 1;
    }
    const table = el("table", {}, head.parentNode, body);
    this.add(parent, "div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" }, table);
    return at;
  }

  paragraph(parent, lines, at, depth) {
    const paragraph = this.add(parent, "p");
    const start = at;
    do at += 1;
    while (at < lines.length && lines[at].trim() && !starts(lines, at));
    this.inline(paragraph, lines.slice(start, at).join("\n"), depth);
    return at;
  }

  inline(parent, text, depth) {
    let from = 0;
    INLINE.lastIndex = 0;
    for (let found; this.left > 0 && (found = INLINE.exec(text)); ) {
      let end = INLINE.lastIndex;
      const node = found[2] === undefined ? this.piece(found, depth) : null;
      if (found[2] !== undefined) {
        const close = text.indexOf(found[2], end);
        if (close < 0) continue;
        parent.append(text.slice(from, found.index));
        this.add(parent, "code", {}, text.slice(end, close));
        end = close + found[2].length;
      } else if (node === null) continue;
      else {
        parent.append(text.slice(from, found.index), node);
        if (found[5] !== undefined) end -= found[5].length - node.dataset.length;
        if (found[10] !== undefined) end -= found[10].length + 1 - node.textContent.length;
      }
      from = end;
      INLINE.lastIndex = end; // inner texts have used it
    }
    parent.append(text.slice(from));
  }

  /** Returns the node of what INLINE has found, null if it is only text. */
  piece(found, depth) {
    const [, escaped, , label, link, address, bold, struck, italic, slanted, name, seq] = found;
    this.left -= 1;
    if (escaped !== undefined) return document.createTextNode(escaped);
    if (link !== undefined) return linkTo(link, label);
    if (address !== undefined) return bareLink(address);
    if (name !== undefined) return this.name(name);
    if (seq !== undefined) return el("a", { href: `#/${encodeURIComponent(this.thread)}/${seq}` }, `#${seq}`);
    if (depth >= DEEPEST) return null;
    const tag = bold !== undefined ? "strong" : struck !== undefined ? "s" : "em";
    const node = el(tag);
    this.inline(node, bold ?? struck ?? italic ?? slanted, depth + 1);
    return node;
  }

  name(typed) {
    for (const each of [typed, typed.replace(/[._-]+$/, "")]) {
      const name = each.toLowerCase();
      if (this.names.has(name)) return el("span", { class: name === this.me ? "at me" : "at" }, `@${each}`);
    }
    return null;
  }
}

/** Returns a link whose label is not an address; where it leads is written beside it. */
function linkTo(address, label) {
  const url = parsed(address);
  if (url === null) return document.createTextNode(`[${label}](${address})`);
  return el("span", {}, anchor(url, label), hostOf(url));
}

function bareLink(address) {
  let shown = address.replace(/[.,;:!?'*_~]+$/, "");
  while (shown.endsWith(")") && shown.split(")").length > shown.split("(").length) shown = shown.slice(0, -1);
  const url = parsed(shown);
  if (url === null) return null;
  const node = anchor(url, shown);
  // The host in the text may look like another one: then its registered form follows.
  const same = shown.toLowerCase().startsWith(`${url.protocol}//${url.host}`) && /^([/?#:]|$)/.test(shown.slice(url.protocol.length + 2 + url.host.length));
  const whole = same ? node : el("span", {}, node, hostOf(url));
  whole.dataset.length = shown.length;
  return whole;
}

/** Says where a link leads. It has a direction of its own, so no text before it turns it around. */
const hostOf = (url) => el("span", { class: "host" }, ` (${url.host})`);

function anchor(url, label) {
  return el("a", { href: url.href, title: url.href, target: "_blank", rel: "noopener noreferrer nofollow" }, label);
}

/** Returns the URL of a link that may be followed, or null. User names pass for hosts: refused. */
export function parsed(address) {
  try {
    const url = new URL(address);
    return /^https?:$/.test(url.protocol) && !url.username && !url.password ? url : null;
  } catch {
    return null;
  }
}

function starts(lines, at) {
  const text = lines[at];
  return FENCE.test(text) || HEADING.test(text) || QUOTE.test(text) || ITEM.test(text) || RULE.test(text) || isTable(lines, at);
}

function isTable(lines, at) {
  const rule = lines[at + 1];
  if (!rule?.includes("-") || !lines[at].includes("|") || !/^[ \t|:-]{3,2000}$/.test(rule)) return false;
  const marks = split(rule);
  return marks.every((cell) => /^:?-+:?$/.test(cell)) && marks.length === split(lines[at]).length;
}

function cells(row) {
  const all = split(row);
  return all.length > MOST_CELLS ? [...all.slice(0, MOST_CELLS - 1), all.slice(MOST_CELLS - 1).join(" | ")] : all;
}

function split(row) {
  const inner = row.trim().replace(/^\|/, "").replace(/\|$/, "");
  return inner.split("|").map((cell) => cell.trim());
}
