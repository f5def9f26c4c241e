// What came back as elements: answers with their n-best, tokens row by row, proposals for masked words.

import { arrowKeys, bar, characters, entityText, inspectable, make, markedText, percent, tokenText } from "/draw.js";
import { say } from "/words.js";

// ---- answers ----

/** A card for each model's answer. readers: what the models are; gold: the right answer, null where none is known. */
export function drawAnswers(place, { text, gold, answers }, readers) {
  const letters = characters(text);
  const about = Object.fromEntries(readers.map((reader) => [reader.name, reader]));
  place.replaceChildren(...answers.map((answer) => answerCard(answer, about[answer.name], letters, gold)));
  for (const context of place.querySelectorAll(".context")) showMark(context);
}

function answerCard(answer, about, letters, gold) {
  const head = make("div", { class: "head" },
    make("h3", {}, answer.name),
    make("span", { class: "badge", title: say("parameters", about.parameters) }, say("modes")[about.mode]));
  if (answer.problem) return make("article", { class: "card" }, head, make("p", { class: "problem" }, answer.problem));
  const context = make("div", { class: "context", tabindex: 0, role: "region", "aria-label": say("contextOf", answer.name) });
  const draw = (span) => {
    context.replaceChildren(...markedText(letters, span, answer.entities));
    showMark(context);
  };
  draw(answer);
  const right = gold === null ? null : gold === answer.text;
  return make("article", { class: "card answer", "aria-label": say("answered", answer.name, answer.text, percent(answer.confidence)) },
    head,
    make("p", { class: "best" }, answer.text),
    make("p", { class: "sure" }, `${say("confidence")} ${percent(answer.confidence)} `, bar(answer.confidence, say("confidence"))),
    right === null ? null : make("p", { class: right ? "gold right" : "gold" },
      `${right ? "✓" : "✗"} ${say(right ? "right" : "wrong")}`, right ? "" : ` (${say("gold")}: ${gold})`),
    context,
    make("h4", {}, say("nbest")),
    candidates(answer, draw));
}

/** The n-best: pointing at one shows it, choosing one keeps it shown. */
function candidates(answer, draw) {
  let kept = answer.nbest[0];
  const list = make("ol", { class: "nbest", "aria-label": say("nbestOf", answer.name) });
  const buttons = answer.nbest.map((candidate) => {
    const button = shareButton(candidate.text, candidate.share, candidate === kept);
    const keep = () => {
      kept = candidate;
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      draw(kept);
    };
    button.addEventListener("click", keep);
    button.addEventListener("mouseenter", () => draw(candidate));
    button.addEventListener("mouseleave", () => draw(kept));
    button.addEventListener("focus", () => draw(candidate));
    button.addEventListener("blur", () => draw(kept));
    return button;
  });
  list.append(...buttons.map((button) => make("li", {}, button)));
  arrowKeys(list);
  return list;
}

/** A choice with its share. */
function shareButton(text, share, pressed) {
  return make("button", { type: "button", "aria-pressed": String(pressed) },
    make("span", { class: "words" }, text), bar(share, null), make("span", { class: "share" }, percent(share)));
}

/** Scroll the box, not the page, until the mark is in sight. */
function showMark(context) {
  const mark = context.querySelector("mark");
  if (!mark) return;
  const top = mark.offsetTop; // within the box, which is its offsetParent
  if (top < context.scrollTop || top + mark.offsetHeight > context.scrollTop + context.clientHeight)
    context.scrollTop = top - context.clientHeight / 3;
}

// ---- tokens ----

/** The entities, and a row for each tokenizer. */
export function drawCuts(place, { text, entities, rows }, annotator) {
  const letters = characters(text);
  const words = text.split(/\s+/).filter(Boolean).length;
  place.replaceChildren(
    make("div", { class: "cut" },
      make("div", { class: "head" }, make("h3", {}, say("entitiesBy", annotator))),
      make("p", { class: "tokens entities" }, ...(entities.length ? entityText(letters, entities) : [say("noEntities")]))),
    ...rows.map((row) => cutRow(row, letters, words)));
}

/** The types that occur, with their lines. */
export function drawLegend(place, { entities, rows }, types) {
  const found = new Set([...entities, ...rows.flatMap((row) => row.entities)].map((entity) => entity.type));
  place.replaceChildren(...types.filter((type) => found.has(type)).map((type) =>
    make("li", {}, make("span", { class: `entity ${type}` }, say("types")[type]))));
}

function cutRow(row, letters, words) {
  const { nodes, boxes } = tokenText(letters, row.tokens, row.entities);
  const unknown = row.tokens.filter((token) => token.kind === "unknown").length;
  const rate = (row.tokens.length / Math.max(1, words)).toFixed(1);
  const figures = [say("tokens", row.tokens.length, rate), say("entries", row.vocabulary)];
  const detail = make("p", { class: "detail soft", "aria-live": "polite" });
  const line = make("div", { class: "tokens", tabindex: 0, role: "group", "aria-label": `${row.name}: ${figures[0]}` }, ...nodes);
  inspectable(line, boxes, row.tokens, detail);
  return make("div", { class: "cut" },
    make("div", { class: "head" }, make("h3", {}, row.name), make("span", { class: "soft" }, figures.join(" · "),
      unknown ? make("span", { class: "lost" }, ` · ${say("unknownTokens", unknown)}`) : "")),
    line, detail);
}

// ---- masked words ----

/** Proposals for each place; `choose` is told when another one is wanted. */
export function drawProposals(place, { places, chosen }, choose) {
  place.replaceChildren(...places.map((proposals, number) => {
    const list = make("ol", { class: "nbest", "aria-label": say("placeOf", number + 1) });
    list.append(...proposals.map((proposal, rank) => {
      const button = shareButton(proposal.text, proposal.probability, rank === chosen[number]);
      button.title = proposal.piece;
      button.addEventListener("click", () => {
        choose(number, rank);
        place.querySelectorAll("ol")[number].querySelectorAll("button")[rank].focus();
      });
      return make("li", {}, button);
    }));
    arrowKeys(list);
    return make("div", {}, make("h3", {}, say("placeOf", number + 1)), list);
  }));
}
