// Spans of a text as elements. Characters are code points here as in Python: "👍" is one, though two in a JavaScript
// string; `letters` is always `characters(text)`. Text gets into the page as text nodes alone, never as HTML.

import { say } from "/words.js";

export const characters = (text) => Array.from(text);

/** An element with attributes (those that are false are left out) and children, strings among them as text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== false) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** The characters [start, end), those of entities in elements of their own. */
function pieces(letters, start, end, entities) {
  const nodes = [];
  let at = start;
  const text = (from, to) => letters.slice(from, to).join("");
  for (const entity of entities) {
    const first = Math.max(entity.start, start);
    const last = Math.min(entity.end, end);
    if (first >= last) continue;
    if (at < first) nodes.push(text(at, first));
    const title = entity.label ? `${say("types")[entity.type]} (${entity.label})` : say("types")[entity.type];
    nodes.push(make("span", { class: `entity ${entity.type}`, title }, text(first, last)));
    at = last;
  }
  if (at < end) nodes.push(text(at, end));
  return nodes;
}

/** A text with its entities, and one span in <mark>. */
export function markedText(letters, span, entities) {
  const mark = make("mark", {}, ...pieces(letters, span.start, span.end, entities));
  return [
    ...pieces(letters, 0, span.start, entities),
    mark,
    ...pieces(letters, span.end, letters.length, entities),
  ];
}

/** A text with its entities and the names of their types. */
export function entityText(letters, entities) {
  const nodes = [];
  let at = 0;
  for (const entity of entities) {
    if (at < entity.start) nodes.push(...pieces(letters, at, entity.start, []));
    const [shown] = pieces(letters, entity.start, entity.end, [entity]);
    nodes.push(make("span", { class: "named" }, shown, make("small", { class: `kind-${entity.type}` }, say("types")[entity.type])));
    at = entity.end;
  }
  if (at < letters.length) nodes.push(...pieces(letters, at, letters.length, []));
  return nodes;
}

/** A text cut into tokens: boxes, with special tokens as chips. Returns the nodes and the boxes among them. */
export function tokenText(letters, tokens, entities) {
  const nodes = [];
  const boxes = [];
  let at = 0;
  let colour = 0;
  for (const token of tokens) {
    if (at < token.start) nodes.push(...pieces(letters, at, token.start, entities));
    at = Math.max(at, token.end);
    let box;
    if (token.kind === "open" || token.kind === "close") {
      box = make("span", { class: `chip ${token.kind}` }, token.kind === "open" ? "[ENT]" : "[/ENT]");
    } else if (token.start === token.end) {
      box = make("span", { class: "token hidden" }, token.piece);
    } else {
      const kind = token.kind === "unknown" ? "token unknown" : `token t${colour++ % 4}`;
      box = make("span", { class: kind }, ...pieces(letters, token.start, token.end, entities));
    }
    nodes.push(box);
    boxes.push(box);
  }
  if (at < letters.length) nodes.push(...pieces(letters, at, letters.length, entities));
  return { nodes, boxes };
}

/** A row of boxes to go through with the arrow keys, the mouse or a finger; `detail` tells about the one chosen. */
export function inspectable(row, boxes, tokens, detail) {
  let current = -1;
  const choose = (number) => {
    if (number < 0 || number >= boxes.length) return;
    boxes[current]?.classList.remove("current");
    current = number;
    boxes[current].classList.add("current");
    const token = tokens[current];
    const kind = token.kind === "text" ? (token.start === token.end ? "hidden" : null) : token.kind;
    const about = say("tokenAt", current + 1, token.piece, token.id, token.start, token.end);
    detail.textContent = kind ? `${about} · ${say(kind)}` : about;
  };
  const numberOf = (target) => boxes.indexOf(target.closest(".token, .chip"));
  row.addEventListener("mouseover", (event) => choose(numberOf(event.target)));
  row.addEventListener("click", (event) => choose(numberOf(event.target)));
  row.addEventListener("keydown", (event) => {
    const to = { ArrowRight: current + 1, ArrowLeft: current - 1, Home: 0, End: boxes.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(to);
    boxes[current]?.scrollIntoView({ block: "nearest" });
  });
}

/** A bar for a share between 0 and 1. */
export function bar(share, label) {
  const filled = make("span", { class: "filling" });
  filled.style.width = `${(100 * share).toFixed(1)}%`;
  const percent = (100 * share).toFixed(0);
  const about = { role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": percent };
  return make("span", label ? { class: "bar", ...about } : { class: "bar", "aria-hidden": "true" }, filled);
}

export const percent = (share) => (share < 0.0005 ? "<0.1 %" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`);

/** Up and down arrows go from button to button. */
export function arrowKeys(list) {
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const buttons = [...list.querySelectorAll("button")];
    const next = buttons[buttons.indexOf(document.activeElement) + step];
    if (next) {
      event.preventDefault();
      next.focus();
    }
  });
}
