// The page: what was typed goes to the server as it stands in the field, and spans that come back are drawn on the very
// same string.

import { characters, make, percent } from "/draw.js";
import { drawAnswers, drawCuts, drawLegend, drawProposals } from "/results.js";
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
    showAnswers();
    showCuts();
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
    showCuts();
  };
});

function showAnswers() {
  if (shown.ask) drawAnswers($("answer-cards"), shown.ask, setup.readers);
}

function showCuts() {
  if (!shown.cut) return;
  const { source, whole, text } = shown.cut;
  const shortened = whole && text.length < source.length;
  $("cut-note").hidden = !shortened;
  $("cut-note").textContent = shortened ? say("shortened", setup.limits.cut) : "";
  drawLegend($("legend"), shown.cut, setup.types);
  drawCuts($("cut-rows"), shown.cut, setup.annotator);
}

/** Say the answers to those who do not see them. */
function announce() {
  const answers = (shown.ask?.answers ?? []).filter((answer) => !answer.problem);
  $("announced").textContent = answers.map((a) => say("answered", a.name, a.text, percent(a.confidence))).join("; ");
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
    showFill();
  };
});

function showFill() {
  if (!shown.fill) return;
  const { text, places, chosen } = shown.fill;
  $("filled").replaceChildren(...text.split(MASK).flatMap((part, number) =>
    number < places.length ? [part, make("mark", {}, places[number][chosen[number]].text)] : [part]));
  drawProposals($("places"), shown.fill, (number, rank) => {
    chosen[number] = rank;
    showFill();
  });
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
  showAnswers();
  showCuts();
  showFill();
}

function listen() {
  for (const [form, send] of [[$("ask"), () => ask(goldOfFields())], [$("fill"), fill]]) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send();
    });
    form.addEventListener("keydown", (event) => {
      // In the text Enter is a new line; everywhere else, and there with Ctrl, it sends. An input method's own Enter is not ours.
      const field = event.target instanceof HTMLTextAreaElement;
      const sends = event.ctrlKey || event.metaKey || (event.target.id !== "text" && !event.shiftKey);
      if (event.key !== "Enter" || event.isComposing || !field || !sends) return;
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
