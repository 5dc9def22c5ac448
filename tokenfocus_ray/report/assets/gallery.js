// Cards of images, their filters, and the dialog that shows one of them whole.

const AROUND = 12;
const KINDS = [["best", "Best"], ["worst", "Worst"], ["disputed", "Most disputed"], ["around", "Around the threshold"], ["all", "All shown"]];

const stateOf = (score, data) => (!known(score) ? "unknown" : score >= data.elementThreshold ? "present" : "failed");
const MARKS = { present: "✓", failed: "✗", unknown: "?" };
const WORDS = { present: "present", failed: "failed", unknown: "not known" };
const shade = (score) => (known(score) ? `s${Math.min(4, Math.max(0, Math.floor(score * 5)))}` : "s-unknown");

function chip(element, data) {
  const state = stateOf(element.score, data);
  return node("span", { class: `chip ${shade(element.score)}`, title: element.type || null },
    node("span", { "aria-hidden": "true" }, MARKS[state] + " "), node("span", { class: "hidden" }, `${WORDS[state]}: `),
    element.text, node("b", {}, ` ${fixed(element.score, 2)}`));
}

function picture(card) {
  if (card.thumb.src) {
    return node("img", { src: card.thumb.src, width: card.thumb.width, height: card.thumb.height,
      alt: `Image made from: ${card.prompt || card.id}` });
  }
  return node("div", { class: "no-image" }, node("b", {}, "no image"), node("code", {}, card.thumb.error), node("span", { title: card.thumb.message }, card.thumb.message));
}

function tile(card, data, open, extra) {
  const shown = card.elements.slice(0, 5), more = card.elements.length - shown.length + card.more;
  return node("button", { type: "button", class: "card", on: { click: open } },
    node("div", { class: "frame" }, picture(card)),
    node("div", { class: "card-text" },
      node("div", { class: "card-top" }, node("b", { class: "score" }, fixed(card.score, 2)), node("span", { class: "muted" }, extra || card.generator || "")),
      node("p", { class: "prompt" }, card.prompt || node("i", {}, "no prompt")),
      node("div", { class: "chips" }, shown.map((one) => chip(one, data)), more > 0 ? node("span", { class: "muted" }, `+${more}`) : null)));
}

function whole_card(card, data, extra) {
  const members = card.members.map((score, m) => [data.members[m] || `member ${m + 1}`, fixed(score, 3)]);
  const columns = [["Element", "text"], ["Type", "text"], ["Score", "number"]];
  if (card.members.length > 1) columns.push(["By member", "number"]);
  const facts = [["Sample", card.id], ["Row", count(card.row)], ["Generator", card.generator], ["Seed", card.seed], ["Image", card.image]];
  return [
    node("div", { class: "large" }, picture(card)),
    node("div", {},
      node("h3", { id: "dialog-title" }, card.prompt || "no prompt"),
      node("p", { class: "lead" }, node("strong", {}, fixed(card.score, 3)),
        node("span", { class: "muted" }, known(card.low) ? ` interval ${between(card.low, card.high, 2)}` : "", extra ? ` · ${extra}` : "")),
      card.elements.length ? table("Elements of this image", columns, card.elements.map((one) => {
        const state = stateOf(one.score, data);
        const cells = [one.text, one.type || "–", node("span", { class: `chip ${shade(one.score)}`, title: WORDS[state] },
          node("span", { class: "hidden" }, `${WORDS[state]}: `), `${MARKS[state]} ${fixed(one.score, 2)}`)];
        if (card.members.length > 1) cells.push(one.members.map((v) => fixed(v, 2)).join(" · ") || "–");
        return cells;
      })) : note(card.problem ? "Its elements cannot be used: rows like it are counted below." : "It has no elements."),
      card.more ? note(`${several(card.more, "more element")} not shown.`) : null,
      members.length > 1 ? table("Members' scores", [["Member", "text"], ["Score", "number"]], members) : null,
      node("dl", { class: "facts" }, facts.filter(([, value]) => value).map(([name, value]) => [node("dt", {}, name), node("dd", {}, value)]).flat())),
  ];
}

function setUpDialog(data) {
  const dialog = byId("dialog");
  let list = [], place = 0;
  function show(to) {
    place = (to + list.length) % list.length;
    const [card, extra] = list[place];
    fill("dialog-body", ...whole_card(card, data, extra));
    byId("dialog-place").textContent = `${place + 1} of ${list.length}`;
  }
  byId("earlier").addEventListener("click", () => show(place - 1));
  byId("later").addEventListener("click", () => show(place + 1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(place - 1);
    if (event.key === "ArrowRight") show(place + 1);
  });
  return (cards, at) => { list = cards; show(at); dialog.showModal(); };
}

// Cards in a grid; each opens the dialog among its neighbours. Pairs are [card, what more is said].
function grid(pairs, data, open) {
  return node("div", { class: "cards" }, pairs.map(([card, extra], i) => tile(card, data, () => open(pairs, i), extra)));
}

function around(cards, threshold) {
  const scored = cards.filter((card) => known(card.score));
  const below = scored.filter((c) => c.score < threshold).sort((a, b) => b.score - a.score).slice(0, AROUND);
  const above = scored.filter((c) => c.score >= threshold).sort((a, b) => a.score - b.score).slice(0, AROUND);
  return [below.reverse(), above];
}

function setUpGallery(data, open) {
  let kind = "best", threshold = 0;
  const cards = data.cards, plain = (list) => list.map((card) => [card, null]);
  const makers = [...new Set(cards.map((c) => c.generator).filter(known))].sort();
  const types = [...new Set(cards.flatMap((c) => c.elements.map((e) => e.type)).filter(Boolean))].sort();
  const options = (id, names, all) => {
    fill(id, node("option", { value: "" }, all), names.map((name, i) => node("option", { value: String(i + 1) }, name)));
    byId(id).disabled = !names.length;
  };
  options("by-kind", types, types.length ? "any" : "no types");
  options("by-maker", makers, makers.length ? "any" : "no generators");
  KINDS.forEach(([key, title]) => byId("kinds").append(node("label", {},
    node("input", { type: "radio", name: "kind", value: key, checked: key === kind, on: { change: () => { kind = key; draw(); } } }),
    node("span", {}, title))));

  function matches(card) {
    const type = types[byId("by-kind").value - 1], maker = makers[byId("by-maker").value - 1];
    const text = byId("by-text").value.trim().toLowerCase();
    if (maker !== undefined && card.generator !== maker) return false;
    if (type !== undefined && !card.elements.some((e) => e.type === type)) return false;
    return !text || [card.prompt, card.id, card.generator, ...card.elements.map((e) => e.text)].some((t) => t && t.toLowerCase().includes(text));
  }

  function says(n, of) {
    const scored = several(data.scored, "scored image");
    const what = {
      best: `The ${of} highest scores of ${scored}.`,
      worst: `The ${of} lowest scores of ${scored}.`,
      disputed: `The ${of} images of ${scored} whose members differ most (standard deviation of their scores).`,
      around: `Up to ${AROUND} images on either side of ${threshold / 1000}, from a sample of all scores.`,
      all: `Every image on this page: ${of} of ${scored}, chosen at random within each stretch of scores, and those of the other galleries.`,
    }[kind];
    return n === of ? what : `${what} ${count(n)} match the filters.`;
  }

  function draw() {
    if (kind === "around") {
      const [below, above] = around(cards, threshold / 1000);
      const shown = [below, above].map((list) => list.filter(matches));
      byId("gallery-says").textContent = says(shown.flat().length, below.length + above.length);
      fill("gallery", ...["Just below: dropped", "Just above: stay"].flatMap((title, i) => [
        node("h3", {}, title), shown[i].length ? grid(plain(shown[i]), data, open) : empty("None here.")]));
      return;
    }
    const list = kind === "all" ? [...cards].sort((a, b) => b.score - a.score) : data[kind].map((i) => cards[i]);
    const shown = list.filter(matches);
    byId("gallery-says").textContent = says(shown.length, list.length);
    const told = kind === "disputed" && !list.length
      ? data.disagreement === null
        ? "Nobody can disagree: the table holds the score of one member only. Score with several members or backbones to see what they disagree on."
        : "All members agree on every image."
      : list.length ? "No image matches the filters." : "No row has a score.";
    fill("gallery", shown.length ? grid(plain(shown), data, open) : empty(told));
  }

  ["by-kind", "by-maker", "by-text"].forEach((id) => byId(id).addEventListener("input", draw));
  fill("legend", "Elements by score: ", [0.1, 0.3, 0.5, 0.7, 0.9].map((s) => node("span", { class: `chip ${shade(s)}` }, `${(s - 0.1).toFixed(1)}–${(s + 0.1).toFixed(1)}`)),
    ` ✓ present from ${data.elementThreshold} on, ✗ failed.`);
  draw();
  return (to) => { threshold = to; if (kind === "around") draw(); };
}
