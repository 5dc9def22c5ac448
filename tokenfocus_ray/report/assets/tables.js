// The sections below the images: tables, each with its words where there is nothing to show.

const others = (n, what) => (n ? note(`${several(n, "more " + what)} with fewer images not listed.`) : null);

function drawStats(data) {
  const [failed, present] = data.states;
  const facts = [
    ["Images", count(data.rows), null],
    ["Scored", percent(data.scored, data.rows), `${count(data.scored)} of ${count(data.rows)}`],
    ["Mean score", fixed(data.mean, 2), data.scale ? `on a scale of ${data.scale[0]} to ${data.scale[1]}` : null],
    ["Median score", fixed(data.quantiles[1], 2), null],
    ["Elements present", percent(present, failed + present), failed + present ? `${count(present)} of ${count(failed + present)}` : "no elements"],
    ["Disagreement", known(data.disagreement) ? `±${fixed(data.disagreement, 2)}` : "–", known(data.disagreement) ? "members, standard deviation" : "one member only"],
  ];
  fill("stats", facts.map(([name, value, more]) => node("div", {}, node("dt", {}, name), node("dd", {}, value), node("dd", { class: "muted" }, more || " "))));
}

function drawElements(data) {
  const { kinds, makers, matrix } = data;
  if (!kinds.listed.length) {
    fill("elements-body", empty("No elements: the table has none, or none that was scored. `tokenfocus data elements` makes elements from prompts."));
    return;
  }
  const share = (k) => (k.n ? k.failed / k.n : 0);
  const bar = (k) => node("div", { class: "meter", "aria-hidden": "true" }, node("i", { vars: { wide: `${100 * share(k)}%` } }));
  const rows = kinds.listed.map((k) => [k.name, bar(k), percent(k.failed, k.n), count(k.failed), count(k.n), k.unknown ? count(k.unknown) : "–"]);
  const parts = [
    note(`An element fails with a score below ${data.elementThreshold}${data.dependencies ? ", or where one that it depends on fails" : ""}.`),
    table("Failing elements by type", [["Type", "text"], ["", "wide"], ["Failed", "number"], ["Elements failed", "number"], ["of", "number"], ["Not known", "number"]], rows),
    others(kinds.others, "type"),
    kinds.capped ? note("The table has very many types: those counted here were chosen at random.") : null,
  ];
  if (makers.listed.length) {
    const cells = makers.listed.map((maker, m) => [maker.name, ...matrix[m].map(([failed, n]) =>
      n ? node("span", { class: "heat", vars: { much: `${(60 * failed) / n}%` }, title: `${count(failed)} of ${count(n)} failed` }, `${Math.round((100 * failed) / n)} %`) : "–")]);
    parts.push(node("h3", {}, "By generator and type"), note("Share of elements that failed."),
      table("Failing elements by generator and type", [["Generator", "text"], ...kinds.listed.map((k) => [k.name, "number"])], cells));
  }
  fill("elements-body", ...parts.filter(Boolean));
}

function drawGenerators(data) {
  const { listed, unnamed } = data.makers;
  if (!listed.length) {
    fill("generators-body", empty("No generator column: the table says nowhere which model made an image. A column `generator`, `model` or `model_name` does, or name one with --map generator=COLUMN."));
    return;
  }
  const axis = rangeOf(listed.map((m) => ({ ...m, value: m.mean })));
  const rows = listed.map((m, i) => [
    `${i + 1}. ${m.name}`, interval({ ...m, value: m.mean }, axis), fixed(m.mean, 3), between(m.low, m.high, 3),
    known(m.first) ? (m.first === m.last ? String(m.first) : `${m.first} to ${m.last}`) : "–", count(m.n), percent(m.elements.failed, m.elements.n)]);
  fill("generators-body", ...[
    note("By mean score. Intervals and places hold for other prompts of the same kind, with 95 % confidence: groups of prompts are drawn anew a thousand times, the same for every generator."),
    table("Generators by mean score", [["Generator", "text"], ["", "wide"], ["Mean score", "number"], ["95 % interval", "number"], ["Place", "number"], ["Images", "number"], ["Elements failed", "number"]], rows),
    others(data.makers.others, "generator"),
    data.makers.capped ? note("The column has very many different names: those counted here were chosen at random.") : null,
    unnamed ? note(`${several(unnamed, "scored image")} without a generator.`) : null].filter(Boolean));
}

function drawUnscored(data) {
  const missing = data.rows - data.scored;
  if (!missing) {
    fill("unscored-body", empty(`Every one of the ${several(data.rows, "row")} has a score.`));
    return;
  }
  const rows = data.unscored.map((one) => [node("code", {}, one.code), count(one.n), percent(one.n, data.rows), one.meaning || "–", `row ${count(one.row)}: ${one.message || "no message"}`]);
  fill("unscored-body", note(`${several(missing, "row")} of ${count(data.rows)} (${percent(missing, data.rows)}).`),
    table("Rows without a score by reason", [["Reason", "text"], ["Rows", "number"], ["Share", "number"], ["What it means", "text"], ["For example", "text"]], rows));
}

function drawLabels(data) {
  const found = data.agreement;
  if (!found) {
    fill("labels-body", empty("No labels were given: with --labels FILE this section says how well the scores follow people's ratings."));
    return;
  }
  const figures = found.figures.map((f) => [f.title, fixed(f.value, 3), between(f.low, f.high, 3), f.unit ? `${count(f.n)} ${f.unit}` : "–"]);
  const [low, high] = found.scale, wide = (label) => `${(100 * (label - low)) / (high - low)}%`;
  const steps = found.stretches.map((s) => [`${fixed(s.from, 2)} to ${fixed(s.to, 2)}`,
    node("div", { class: "meter good", "aria-hidden": "true" }, node("i", { vars: { wide: wide(s.label) } })), fixed(s.label, 2), count(s.n)]);
  const makers = found.makers.map((m) => [m.name, fixed(m.score, 3), fixed(m.label, 3), between(m.low, m.high, 3), fixed(m.srcc, 3), count(m.n)]);
  fill("labels-body", ...[
    note(`${several(found.labelled, "scored image")} with a usable label, of ${several(found.prompts, "prompt")}; ${count(found.labels)} labels in ${found.where}.`),
    table("How well scores follow labels", [["Measure", "text"], ["Value", "number"], ["95 % interval", "number"], ["Over", "number"]], figures),
    node("h3", {}, "Mean label by score"),
    table("Mean label by score", [["Scores", "text"], ["", "wide"], ["Mean label", "number"], ["Images", "number"]], steps),
    makers.length ? node("h3", {}, "By generator") : null,
    makers.length ? table("Scores and labels by generator", [["Generator", "text"], ["Mean score", "number"], ["Mean label", "number"], ["95 % interval of the label", "number"], ["SRCC", "number"], ["Images", "number"]], makers) : null,
    others(found.others, "generator"),
    found.reasons.length ? node("ul", { class: "muted" }, found.reasons.map((reason) => node("li", {}, reason))) : null].filter(Boolean));
}

function overlay(first, second) {
  const frame = frameOf([first, second], 60);
  const [a, b] = [first, second].map((s) => barsOf(s, frame.from, frame.width, frame.n));
  const sum = (list) => list.reduce((x, y) => x + y, 0), [na, nb] = [sum(a), sum(b)];
  const most = Math.max(...a.map((n) => n / na), ...b.map((n) => n / nb));
  return node("div", { class: "plot low", role: "img", "aria-label": "Histograms of both runs' scores" },
    node("div", { class: "grid" }, node("span", { vars: { up: "100%" } }, `${(100 * most).toFixed(1)} %`)),
    node("div", { class: "bars" }, a.map((n, i) => node("i", { class: b[i] ? "bar two" : "bar two one", vars: { high: `${(100 * n) / na / most}%`, other: `${(100 * b[i]) / nb / most}%` },
      title: `${(frame.from + i * frame.width) / 1000} to ${(frame.from + (i + 1) * frame.width) / 1000}: ${percent(n, na)} here, ${percent(b[i], nb)} there` }))),
    axis(frame));
}

function drawRuns(data, open) {
  const found = data.against;
  if (!found) {
    fill("runs-body", empty("No other run was given: with --against SCORES2 this section shows both side by side."));
    return;
  }
  const c = found.counts, [a, b] = found.pairs;
  const say = [
    `${several(c.both, "image")} scored by both${found.isSample ? ", a sample" : ""}; ${count(c.first)} here only, ${count(c.second)} there only, ${count(c.neither)} by neither.`,
    c.onlyFirst || c.onlySecond ? `${several(c.onlyFirst, "sample")} of this run and ${count(c.onlySecond)} of the other are not in both tables.` : "",
    found.isSample ? "The tables do not stand row by row and are large, so these are the samples whose ids have the least hashes." : "",
  ].filter(Boolean).join(" ");
  if (!a || !b) {
    fill("runs-body", note(`Against ${found.where}.`), empty(`No image has a score in both runs. ${say}`));
    return;
  }
  const moved = (rows) => rows.map((row) => [data.cards[data.byRow.get(row)], `${signed(found.moved[row], 2)} here`]);
  const axis_ = rangeOf(found.makers.map((m) => ({ ...m, value: m.difference })), true);
  const makers = found.makers.map((m) => [m.name, interval({ ...m, value: m.difference }, axis_, true), signed(m.difference, 3),
    known(m.low) ? `${signed(m.low, 3)} to ${signed(m.high, 3)}` : "–", fixed(m.first, 3), fixed(m.second, 3), count(m.n)]);
  fill("runs-body", ...[
    note(`Against ${found.where}. ${say}`),
    node("p", { class: "lead" }, node("strong", {}, signed(found.difference, 3)), node("span", { class: "muted" },
      ` mean difference${found.interval ? ` (95 % interval ${signed(found.interval.low, 3)} to ${signed(found.interval.high, 3)})` : ""}; rank correlation `),
      node("strong", {}, fixed(found.srcc, 3)), node("span", { class: "muted" }, ` (Spearman, ${several(found.ranked, "image")})`)),
    node("p", { class: "legend muted" }, node("i", { class: "swatch" }), "this run", node("i", { class: "swatch hollow" }), "the other", node("span", {}, "(share of the images that both scored)")),
    overlay(a, b),
    makers.length ? node("h3", {}, "Difference by generator") : null,
    makers.length ? table("Difference by generator", [["Generator", "text"], ["", "wide"], ["Difference", "number"], ["95 % interval", "number"], ["Here", "number"], ["There", "number"], ["Images", "number"]], makers) : null,
    others(found.others, "generator"),
    node("h3", {}, "Much higher here"), found.rose.length ? grid(moved(found.rose), data, open) : empty("None is higher here."),
    node("h3", {}, "Much lower here"), found.fell.length ? grid(moved(found.fell), data, open) : empty("None is lower here.")].filter(Boolean));
}

function drawOrigin(data) {
  const who = data.who.map((one) => [one.name, one.source, one.revision || "–", one.members.join(", "), one.package]);
  const notes = [
    `${several(data.cards.length, "image")} of ${several(data.rows, "row")} are shown on this page; counts, means and the histogram are over all rows.`,
    `The count beside the slider is exact at every multiple of ${data.scores ? data.scores.step / 1000 : 0.001}.`,
    ...data.notes,
  ];
  fill("origin-body",
    node("dl", { class: "facts" }, [["Scores", data.source], ["Made", data.generated], ["With", `tokenfocus-ray ${data.version}`],
      ["Ensemble", data.ensemble ? `${data.ensemble.fingerprint}, intervals of ${Math.round(100 * data.ensemble.coverage)} %` : null]]
      .filter(([, value]) => value).flatMap(([name, value]) => [node("dt", {}, name), node("dd", {}, value)])),
    who.length ? table("Who scored", [["Backbone", "text"], ["Source", "text"], ["Revision", "text"], ["Members", "text"], ["Scored with", "text"]], who)
      : empty("The table's metadata does not say who scored."),
    node("ul", { class: "muted" }, notes.map((text) => node("li", {}, text))));
}
