// What the page says, in its languages.

const WORDS = {
  ko: {
    skip: "본문으로 가기",
    subtitle: "개체명을 아는 한국어 BERT",
    input: "글과 질문",
    pick: "예문 고르기",
    own: "직접 쓰기",
    learned: "학습한 글",
    unseen: "처음 보는 글",
    text: "글",
    question: "질문",
    find: "답 찾기",
    cut: "토큰 나누기",
    answers: "답",
    cuts: "토큰 나누기",
    whole: "글 전체",
    marked: "모델 없는 토크나이저에도 개체 표시 넣기",
    cutsAbout: "색은 토큰마다 바뀌고, 밑줄은 개체입니다. 줄을 고르고 화살표 키를 누르면 토큰을 하나씩 볼 수 있습니다.",
    masks: "빈칸 채우기",
    masksAbout: "[MASK] 자리에 올 토큰을 사전 학습 모델이 예측합니다. 후보를 누르면 그 자리에 들어갑니다.",
    maskedText: "[MASK]가 있는 글",
    predict: "예측하기",
    insert: "[MASK] 넣기",
    footer: "이 컴퓨터 안에서만 돌아갑니다. 입력한 글은 어디에도 저장되거나 보내지지 않습니다.",
    remote: "다른 컴퓨터에서 돌아갈 수 있습니다. 입력한 글은 그 컴퓨터로 암호화 없이 보내지며, 저장되지는 않습니다.",
    working: "계산하는 중…",
    failed: "계산하지 못했습니다.",
    done: (seconds) => `${seconds}초 걸렸습니다.`,
    count: (found, limit) => `${found.toLocaleString("ko")} / ${limit.toLocaleString("ko")}자`,
    confidence: "확신",
    nbest: "후보",
    gold: "정답",
    right: "정답과 같음",
    wrong: "정답과 다름",
    answered: (name, text, percent) => `${name}: ${text}, 확신 ${percent}`,
    contextOf: (name) => `${name}의 답이 표시된 글`,
    nbestOf: (name) => `${name}의 후보`,
    modes: { none: "개체 없음", split: "개체 경계에서 자름", markers: "[ENT] 표시", embedding: "개체 임베딩", both: "[ENT] 표시와 개체 임베딩" },
    parameters: (count) => `매개변수 ${count.toLocaleString("ko")}개`,
    entitiesBy: (name) => `개체 (${name})`,
    noEntities: "찾은 개체가 없습니다.",
    tokens: (count, rate) => `토큰 ${count}개, 어절당 ${rate}개`,
    unknownTokens: (count) => `미등록 토큰 ${count}개`,
    entries: (count) => `어휘 ${count.toLocaleString("ko")}개`,
    tokenAt: (number, piece, id, start, end) => `토큰 ${number}: ${piece} · 번호 ${id} · 글자 ${start}–${end}`,
    unknown: "미등록 토큰 [UNK]",
    hidden: "앞 글자에 속한 토큰",
    open: "개체 시작",
    close: "개체 끝",
    types: { entity: "개체", person: "인물", place: "장소", organisation: "단체", time: "시간", number: "수" },
    shortened: (limit) => `앞의 ${limit.toLocaleString("ko")}자만 나누어 보여 줍니다.`,
    blank: "비어 있습니다",
    placeOf: (number) => `빈칸 ${number}`,
    problems: {
      too_long: (e) => `${e.field === "question" ? "질문이" : "글이"} 너무 깁니다: ${e.found.toLocaleString("ko")}자, 최대 ${e.limit.toLocaleString("ko")}자`,
      blank: (e) => (e.field === "question" ? "질문을 써 주세요." : "글을 써 주세요."),
      no_mask: () => "글에 [MASK]가 없습니다.",
      busy: () => "요청이 너무 많습니다. 잠시 뒤에 다시 해 주세요.",
      network: () => "korbert 서버에 연결할 수 없습니다. 터미널에서 아직 돌고 있나요?",
    },
  },
  en: {
    skip: "Go to the content",
    subtitle: "Korean BERT that knows entities",
    input: "Text and question",
    pick: "Pick an example",
    own: "Your own",
    learned: "Texts it has learned from",
    unseen: "Texts it has not seen",
    text: "Text",
    question: "Question",
    find: "Find the answer",
    cut: "Cut into tokens",
    answers: "Answers",
    cuts: "Tokens",
    whole: "Whole text",
    marked: "Mark entities for tokenizers without a model too",
    cutsAbout: "Colours change from token to token; underlined: entities. Choose a row and press the arrow keys to go from token to token.",
    masks: "Masked words",
    masksAbout: "The pretrained model predicts the token for each [MASK]. Choose a proposal to put it in.",
    maskedText: "Text with [MASK]",
    predict: "Predict",
    insert: "Insert [MASK]",
    footer: "Runs on this computer alone. What you type is neither kept nor sent anywhere.",
    remote: "May run on another computer. What you type is sent there without encryption, and is not kept.",
    working: "Working…",
    failed: "That did not work.",
    done: (seconds) => `Took ${seconds} s.`,
    count: (found, limit) => `${found.toLocaleString("en")} / ${limit.toLocaleString("en")} characters`,
    confidence: "confidence",
    nbest: "n-best",
    gold: "gold",
    right: "same as gold",
    wrong: "not the gold answer",
    answered: (name, text, percent) => `${name}: ${text}, confidence ${percent}`,
    contextOf: (name) => `Text with the answer of ${name}`,
    nbestOf: (name) => `n-best of ${name}`,
    modes: { none: "no entities", split: "cut at entities", markers: "[ENT] markers", embedding: "entity embedding", both: "[ENT] markers and entity embedding" },
    parameters: (count) => `${count.toLocaleString("en")} parameters`,
    entitiesBy: (name) => `Entities (${name})`,
    noEntities: "No entities were found.",
    tokens: (count, rate) => `${count} tokens, ${rate} an eojeol`,
    unknownTokens: (count) => `${count} unknown`,
    entries: (count) => `${count.toLocaleString("en")} entries`,
    tokenAt: (number, piece, id, start, end) => `token ${number}: ${piece} · id ${id} · characters ${start}–${end}`,
    unknown: "unknown token [UNK]",
    hidden: "part of the character before",
    open: "entity begins",
    close: "entity ends",
    types: { entity: "entity", person: "person", place: "place", organisation: "organisation", time: "time", number: "number" },
    shortened: (limit) => `Only the first ${limit.toLocaleString("en")} characters are cut here.`,
    blank: "empty",
    placeOf: (number) => `Mask ${number}`,
    problems: {
      too_long: (e) => `The ${e.field} is too long: ${e.found.toLocaleString("en")} characters, at most ${e.limit.toLocaleString("en")}`,
      blank: (e) => `Please write a ${e.field === "question" ? "question" : "text"}.`,
      no_mask: () => "There is no [MASK] in the text.",
      busy: () => "Too many requests at once; try again in a moment.",
      network: () => "The korbert server cannot be reached. Is it still running in your terminal?",
    },
  },
};

let language = "ko";

/** Choose a language, and say everything on the page in it that does not depend on results. */
export function speak(chosen) {
  language = chosen in WORDS ? chosen : "ko";
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = say(element.dataset.t);
  for (const button of document.querySelectorAll("[data-language]"))
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
  return language;
}

/** What `key` is in the chosen language; phrases with figures take them as arguments. */
export function say(key, ...figures) {
  const words = WORDS[language][key];
  return typeof words === "function" ? words(...figures) : words;
}

/** A problem in the chosen language, or as the server says it. */
export function sayProblem(error) {
  const words = WORDS[language].problems[error.code];
  return words ? words(error) : `${say("failed")} ${error.message ?? ""}`;
}
