// Galleries of cards, and their filters.

const AROUND = 12;
const KINDS = [
  ["best", "Best"],
  ["worst", "Worst"],
  ["disputed", "Most disputed"],
  ["around", "Around the threshold"],
  ["all", "All shown"],
];

function around(cards, threshold) {
  const scored = cards.filter((card) => known(card.score));
  const below = scored
    .filter((c) => c.score < threshold)
    .sort((a, b) => b.score - a.score)
    .slice(0, AROUND);
  const above = scored
    .filter((c) => c.score >= threshold)
    .sort((a, b) => a.score - b.score)
    .slice(0, AROUND);
  return [below.reverse(), above];
}

function setUpGallery(data, open) {
  let kind = "best",
    threshold = 0;
  const cards = data.cards,
    plain = (list) => list.map((card) => [card, null]);
  const makers = [...new Set(cards.map((c) => c.generator).filter(known))].sort();
  const types = [
    ...new Set(cards.flatMap((c) => c.elements.map((e) => e.type)).filter(Boolean)),
  ].sort();
  const options = (id, names, all) => {
    fill(
      id,
      node("option", { value: "" }, all),
      names.map((name, i) => node("option", { value: String(i + 1) }, name)),
    );
    byId(id).disabled = !names.length;
  };
  options("by-kind", types, types.length ? "any" : "no types");
  options("by-maker", makers, makers.length ? "any" : "no generators");
  KINDS.forEach(([key, title]) =>
    byId("kinds").append(
      node(
        "label",
        {},
        node("input", {
          type: "radio",
          name: "kind",
          value: key,
          checked: key === kind,
          on: {
            change: () => {
              kind = key;
              draw();
            },
          },
        }),
        node("span", {}, title),
      ),
    ),
  );

  function matches(card) {
    const type = types[byId("by-kind").value - 1],
      maker = makers[byId("by-maker").value - 1];
    const text = byId("by-text").value.trim().toLowerCase();
    if (maker !== undefined && card.generator !== maker) return false;
    if (type !== undefined && !card.elements.some((e) => e.type === type)) return false;
    return (
      !text ||
      [card.prompt, card.id, card.generator, ...card.elements.map((e) => e.text)].some(
        (t) => t && t.toLowerCase().includes(text),
      )
    );
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
      fill(
        "gallery",
        ...["Just below: dropped", "Just above: stay"].flatMap((title, i) => [
          node("h3", {}, title),
          shown[i].length ? grid(plain(shown[i]), open) : empty("None here."),
        ]),
      );
      return;
    }
    const list =
      kind === "all"
        ? [...cards].sort((a, b) => b.score - a.score)
        : data[kind].map((i) => cards[i]);
    const shown = list.filter(matches);
    byId("gallery-says").textContent = says(shown.length, list.length);
    const told =
      kind === "disputed" && !list.length
        ? data.disagreement === null
          ? "Nobody can disagree: the table holds the score of one member only. Score with several members or backbones to see what they disagree on."
          : "All members agree on every image."
        : list.length
          ? "No image matches the filters."
          : "No row has a score.";
    fill("gallery", shown.length ? grid(plain(shown), open) : empty(told));
  }

  ["by-kind", "by-maker", "by-text"].forEach((id) => byId(id).addEventListener("input", draw));
  fill(
    "legend",
    "Elements by score: ",
    [0.1, 0.3, 0.5, 0.7, 0.9].map((s) =>
      node(
        "span",
        { class: `chip ${shade(s)}` },
        `${(s - 0.1).toFixed(1)}–${(s + 0.1).toFixed(1)}`,
      ),
    ),
    ` ✓ present from ${data.elementThreshold} on, ✗ failed.`,
  );
  draw();
  return (to) => {
    threshold = to;
    if (kind === "around") draw();
  };
}
