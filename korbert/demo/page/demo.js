// The page: what was typed goes to the server as it stands in the field, and spans that come back are drawn on the very
// same string.

import { arrowKeys, bar, characters, entityText, inspectable, make, markedText, percent, tokenText } from "/draw.js";
import { say, sayProblem, speak } from "/words.js";

const $ = (id) => document.getElementById(id);
let setup;
// The last results, to be said again in another language.
const shown = { ask: null, cut: null, fill: null };
let pending = 0;
const EASY = 120; // characters
const WORD = /[\p{L}\p{N}]/u;

class Problem extends Error {
  constructor(about) {
    super(about.message ?? about.code);
    this.about = about;
  }
}

async function call(path, body) {
  let response;
  try {
    const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    response = await fetch(path, body === undefined ? {} : post);
  } catch {
    throw new Problem({ code: "network" });
  }
  const result = await response.json();
  if (!response.ok) throw new Problem(result.error);
  return result;
}

/** Refuse here what the server would refuse. */
function check(field, text, limit) {
  const found = characters(text).length;
  if (found > limit) throw new Problem({ code: "too_long", field, found, limit });
  if (!WORD.test(text)) throw new Problem({ code: "blank", field });
}

/** Make something that only the latest call of may finish, with its status said; `work` returns what to do at the end. */
function latest(status, work) {
  let ticket = 0;
  return async (...values) => {
    const mine = ++ticket;
    const began = performance.now();
    busy(1);
    status.classList.remove("problem");
    status.textContent = say("working");
    try {
      const finish = await work(...values);
      if (mine !== ticket) return;
      finish();
      status.textContent = say("done", ((performance.now() - began) / 1000).toFixed(1));
    } catch (error) {
      if (mine !== ticket) return;
      status.classList.add("problem");
      status.textContent = error instanceof Problem ? sayProblem(error.about) : `${say("failed")} ${error}`;
      if (!(error instanceof Problem)) throw error;
    } finally {
      busy(-1);
    }
  };
}

function busy(change) {
  pending += change;
  $("main").setAttribute("aria-busy", String(pending > 0));
}

// ---- answers ----

const ask = latest($("status"), async (gold = null) => {
  const [text, question] = [$("text").value, $("question").value];
  check("text", text, setup.limits.text);
  const asked = setup.readers.length > 0;
  if (asked) check("question", question, setup.limits.question);
  const [answered, cuts] = await Promise.all([asked ? call("/api/answer", { text, question }) : null, cut(text)]);
  return () => {
    shown.ask = answered && { ...answered, text, gold };
    shown.cut = cuts;
    drawAnswers();
    drawCuts();
    announce();
    if (cuts.marked !== $("marked").checked || cuts.whole !== $("whole").checked) recut();
  };
});

/** How a text, or its beginning, is cut, with the switches as they are. */
async function cut(source) {
  const [marked, whole] = [$("marked").checked, $("whole").checked];
  const text = whole ? characters(source).slice(0, setup.limits.cut).join("") : beginning(source);
  return { source, marked, whole, text, ...(await call("/api/cut", { text, marked })) };
}

/** The first sentences, as many as are easy to compare. */
function beginning(text) {
  const letters = characters(text);
  const most = Math.min(EASY, setup.limits.cut);
  if (letters.length <= most) return text;
  const last = (fits) => letters.slice(0, most).findLastIndex((letter, i) => i > 0 && fits(letter, letters[i - 1]));
  const space = (letter) => /\s/.test(letter);
  const ends = [last((letter, before) => space(letter) && /[.!?。]/.test(before)), last(space), most];
  const first = letters.slice(0, ends.find((end) => end > 0)).join("");
  return WORD.test(first) ? first : letters.slice(0, setup.limits.cut).join("");
}

const recut = latest($("status"), async () => {
  const source = shown.cut?.source;
  if (source === undefined) return () => {};
  const cuts = await cut(source);
  return () => {
    if (shown.cut.source !== source) return;
    shown.cut = cuts;
    drawCuts();
  };
});

/** Say the answers to those who do not see them. */
function announce() {
  const answers = (shown.ask?.answers ?? []).filter((answer) => !answer.problem);
  $("announced").textContent = answers.map((a) => say("answered", a.name, a.text, percent(a.confidence))).join("; ");
}

function drawAnswers() {
  if (!shown.ask) return;
  const { text, gold, answers } = shown.ask;
  const letters = characters(text);
  $("answer-cards").replaceChildren(...answers.map((answer) => answerCard(answer, letters, gold)));
  for (const context of document.querySelectorAll(".context")) showMark(context);
}

function answerCard(answer, letters, gold) {
  const about = setup.readers.find((reader) => reader.name === answer.name);
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
    const button = make("button", { type: "button", "aria-pressed": String(candidate === kept) },
      make("span", { class: "words" }, candidate.text), bar(candidate.share, null), make("span", { class: "share" }, percent(candidate.share)));
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

/** Scroll the box, not the page, until the mark is in sight. */
function showMark(context) {
  const mark = context.querySelector("mark");
  if (!mark) return;
  const top = mark.offsetTop; // within the box, which is its offsetParent
  if (top < context.scrollTop || top + mark.offsetHeight > context.scrollTop + context.clientHeight)
    context.scrollTop = top - context.clientHeight / 3;
}

// ---- tokens ----

function drawCuts() {
  if (!shown.cut) return;
  const { source, whole, text, entities, rows } = shown.cut;
  const shortened = whole && text.length < source.length;
  const letters = characters(text);
  const words = text.split(/\s+/).filter(Boolean).length;
  $("cut-note").hidden = !shortened;
  $("cut-note").textContent = shortened ? say("shortened", setup.limits.cut) : "";
  const types = new Set([...entities, ...rows.flatMap((row) => row.entities)].map((entity) => entity.type));
  $("legend").replaceChildren(...setup.types.filter((type) => types.has(type)).map((type) =>
    make("li", {}, make("span", { class: `entity ${type}` }, say("types")[type]))));
  $("cut-rows").replaceChildren(
    make("div", { class: "cut" },
      make("div", { class: "head" }, make("h3", {}, say("entitiesBy", setup.annotator))),
      make("p", { class: "tokens entities" }, ...(entities.length ? entityText(letters, entities) : [say("noEntities")]))),
    ...rows.map((row) => cutRow(row, letters, words)));
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

const MASK = "[MASK]";
const fill = latest($("fill-status"), async () => {
  const text = $("masked-text").value;
  check("text", text, setup.limits.cut);
  if (!text.includes(MASK)) throw new Problem({ code: "no_mask" });
  const { places } = await call("/api/fill", { text });
  return () => {
    shown.fill = { text, places, chosen: places.map(() => 0) };
    drawFill();
  };
});

function drawFill() {
  if (!shown.fill) return;
  const { text, places, chosen } = shown.fill;
  const parts = text.split(MASK);
  $("filled").replaceChildren(...parts.flatMap((part, number) =>
    number < places.length ? [part, make("mark", {}, places[number][chosen[number]].text)] : [part]));
  $("places").replaceChildren(...places.map((proposals, place) => {
    const list = make("ol", { class: "nbest", "aria-label": say("placeOf", place + 1) });
    list.append(...proposals.map((proposal, number) => {
      const button = make("button", { type: "button", "aria-pressed": String(number === chosen[place]), title: proposal.piece },
        make("span", { class: "words" }, proposal.text), bar(proposal.probability, null), make("span", { class: "share" }, percent(proposal.probability)));
      button.addEventListener("click", () => {
        shown.fill.chosen[place] = number;
        drawFill();
        $("places").querySelectorAll("ol")[place].querySelectorAll("button")[number].focus();
      });
      return make("li", {}, button);
    }));
    arrowKeys(list);
    return make("div", {}, make("h3", {}, say("placeOf", place + 1)), list);
  }));
}

// ---- choosing ----

function options(select, groups) {
  select.replaceChildren(make("option", { value: "" }, say("own")));
  for (const [name, entries] of groups) {
    const made = entries.map(([value, label]) => make("option", { value }, label));
    if (made.length) select.append(name ? make("optgroup", { label: name }, ...made) : made[0], ...(name ? [] : made.slice(1)));
  }
}

function drawExamples() {
  const chosen = [$("example").value, $("masked-example").value];
  const labelled = setup.examples.flatMap((example, i) => setup.readers.length
    ? example.questions.map((question, j) => [example.trained_on, `${i}.${j}`, `${example.title}: ${question.text}`])
    : [[example.trained_on, `${i}.0`, example.title]]);
  options($("example"), [true, false].map((learned) => [say(learned ? "learned" : "unseen"),
    labelled.filter(([trained]) => trained === learned).map(([, value, label]) => [value, label])]));
  options($("masked-example"), [["", setup.masked_examples.map((text, i) => [String(i), text])]]);
  [$("example").value, $("masked-example").value] = chosen;
}

function pickExample() {
  if ($("example").value === "") return;
  const [i, j] = $("example").value.split(".").map(Number);
  const question = setup.examples[i].questions[j];
  $("text").value = setup.examples[i].text;
  $("question").value = question?.text ?? "";
  count();
  ask(question?.gold ?? null);
}

function pickMasked() {
  if ($("masked-example").value === "") return;
  $("masked-text").value = setup.masked_examples[Number($("masked-example").value)];
  fill();
}

function count() {
  const found = characters($("text").value).length;
  $("text-count").textContent = say("count", found, setup.limits.text);
  $("text-count").classList.toggle("problem", found > setup.limits.text);
}

function goldOfFields() {
  const [i, j] = $("example").value.split(".").map(Number);
  const example = setup.examples[i];
  const question = example?.questions[j];
  return question && $("text").value === example.text && $("question").value === question.text ? question.gold : null;
}

function insertMask() {
  const field = $("masked-text");
  field.setRangeText(MASK, field.selectionStart, field.selectionEnd, "end");
  field.focus();
}

function drawAll() {
  if (!setup.local) $("footer").textContent = say("remote");
  $("submit").textContent = say(setup.readers.length ? "find" : "cut");
  drawExamples();
  count();
  drawAnswers();
  drawCuts();
  drawFill();
}

function listen() {
  for (const [form, send] of [[$("ask"), () => ask(goldOfFields())], [$("fill"), fill]]) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
      event.preventDefault();
      send();
    });
  }
  $("text").addEventListener("input", count);
  $("example").addEventListener("change", pickExample);
  $("masked-example").addEventListener("change", pickMasked);
  for (const id of ["marked", "whole"]) $(id).addEventListener("change", () => recut());
  $("insert").addEventListener("click", insertMask);
  for (const button of document.querySelectorAll("[data-language]"))
    button.addEventListener("click", () => {
      const language = speak(button.dataset.language);
      try { localStorage.setItem("language", language); } catch { /* not allowed: it is not remembered */ }
      for (const id of ["status", "fill-status", "announced"]) $(id).textContent = "";
      drawAll();
    });
}

async function start() {
  let language = new URLSearchParams(location.search).get("lang");
  try { language ??= localStorage.getItem("language"); } catch { /* not allowed */ }
  speak(language ?? "ko");
  try {
    setup = await call("/api/setup");
  } catch (error) {
    $("problem").hidden = false;
    $("problem").textContent = sayProblem(error.about ?? { message: String(error) });
    return;
  }
  $("answers").hidden = $("asking").hidden = !setup.readers.length;
  $("masks").hidden = !setup.masked;
  $("picking").hidden = !setup.examples.length;
  $("picking-masked").hidden = !setup.masked_examples.length;
  listen();
  drawAll();
  $("example").selectedIndex = Math.min(1, $("example").options.length - 1);
  $("masked-example").selectedIndex = Math.min(1, $("masked-example").options.length - 1);
  pickExample();
  if (setup.masked) pickMasked();
  if (!pending) busy(0);
}

start();
