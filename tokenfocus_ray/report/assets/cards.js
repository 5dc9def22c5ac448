// Cards of images, and the dialog that shows one of them whole.

const stateOf = (element) =>
  element.present === null ? "unknown" : element.present ? "present" : "failed";
const MARKS = { present: "✓", failed: "✗", unknown: "?" };
const WORDS = { present: "present", failed: "failed", unknown: "not known" };
const shade = (score) =>
  known(score) ? `s${Math.min(4, Math.max(0, Math.floor(score * 5)))}` : "s-unknown";

function chip(element) {
  const state = stateOf(element);
  return node(
    "span",
    { class: `chip ${shade(element.score)}`, title: element.type || null },
    node("span", { "aria-hidden": "true" }, MARKS[state] + " "),
    node("span", { class: "hidden" }, `${WORDS[state]}: `),
    element.text,
    node("b", {}, ` ${fixed(element.score, 2)}`),
  );
}

function picture(card) {
  if (card.thumb.src) {
    return node("img", {
      src: card.thumb.src,
      width: card.thumb.width,
      height: card.thumb.height,
      alt: `Image made from: ${card.prompt || card.id}`,
    });
  }
  return node(
    "div",
    { class: "no-image" },
    node("b", {}, "no image"),
    node("code", {}, card.thumb.error),
    node("span", { title: card.thumb.message }, card.thumb.message),
  );
}

function tile(card, open, extra) {
  const shown = card.elements.slice(0, 5),
    more = card.elements.length - shown.length + card.more;
  return node(
    "button",
    { type: "button", class: "card", on: { click: open } },
    node("div", { class: "frame" }, picture(card)),
    node(
      "div",
      { class: "card-text" },
      node(
        "div",
        { class: "card-top" },
        node("b", { class: "score" }, fixed(card.score, 2)),
        node("span", { class: "muted" }, extra || card.generator || ""),
      ),
      node("p", { class: "prompt" }, card.prompt || node("i", {}, "no prompt")),
      node(
        "div",
        { class: "chips" },
        shown.map((one) => chip(one)),
        more > 0 ? node("span", { class: "muted" }, `+${more}`) : null,
      ),
    ),
  );
}

function wholeCard(card, data, extra) {
  const members = card.members.map((score, m) => [
    data.members[m] || `member ${m + 1}`,
    fixed(score, 3),
  ]);
  const columns = [
    ["Element", "text"],
    ["Type", "text"],
    ["Score", "number"],
  ];
  if (card.members.length > 1) columns.push(["By member", "number"]);
  const facts = [
    ["Sample", card.id],
    ["Row", count(card.row)],
    ["Generator", card.generator],
    ["Seed", card.seed],
    ["Image", card.image],
  ];
  return [
    node("div", { class: "large" }, picture(card)),
    node(
      "div",
      {},
      node("h3", { id: "dialog-title" }, card.prompt || "no prompt"),
      node(
        "p",
        { class: "lead" },
        node("strong", {}, fixed(card.score, 3)),
        node(
          "span",
          { class: "muted" },
          known(card.low) ? ` interval ${between(card.low, card.high, 2)}` : "",
          extra ? ` · ${extra}` : "",
        ),
      ),
      card.elements.length
        ? table(
            "Elements of this image",
            columns,
            card.elements.map((one) => {
              const state = stateOf(one);
              const cells = [
                one.text,
                one.type || "–",
                node(
                  "span",
                  { class: `chip ${shade(one.score)}`, title: WORDS[state] },
                  node("span", { class: "hidden" }, `${WORDS[state]}: `),
                  `${MARKS[state]} ${fixed(one.score, 2)}`,
                ),
              ];
              if (card.members.length > 1)
                cells.push(one.members.map((v) => fixed(v, 2)).join(" · ") || "–");
              return cells;
            }),
          )
        : note(
            card.problem
              ? "Its elements cannot be used: rows like it are counted below."
              : "It has no elements.",
          ),
      card.more ? note(`${several(card.more, "more element")} not shown.`) : null,
      members.length > 1
        ? table(
            "Members' scores",
            [
              ["Member", "text"],
              ["Score", "number"],
            ],
            members,
          )
        : null,
      node(
        "dl",
        { class: "facts" },
        facts
          .filter(([, value]) => value)
          .map(([name, value]) => [node("dt", {}, name), node("dd", {}, value)])
          .flat(),
      ),
    ),
  ];
}

function setUpDialog(data) {
  const dialog = byId("dialog");
  let list = [],
    place = 0;
  function show(to) {
    place = (to + list.length) % list.length;
    const [card, extra] = list[place];
    fill("dialog-body", ...wholeCard(card, data, extra));
    byId("dialog-place").textContent = `${place + 1} of ${list.length}`;
  }
  byId("earlier").addEventListener("click", () => show(place - 1));
  byId("later").addEventListener("click", () => show(place + 1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(place - 1);
    if (event.key === "ArrowRight") show(place + 1);
  });
  return (cards, at) => {
    list = cards;
    show(at);
    dialog.showModal();
  };
}

// Cards in a grid; each opens the dialog among its neighbours. Pairs are [card, what more is said].
function grid(pairs, open) {
  return node(
    "div",
    { class: "cards" },
    pairs.map(([card, extra], i) => tile(card, () => open(pairs, i), extra)),
  );
}
