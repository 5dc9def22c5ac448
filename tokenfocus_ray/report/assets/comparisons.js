// The sections that compare: with labels, and with another run; and where the page comes from.

function drawLabels(data) {
  const found = data.agreement;
  if (!found) {
    fill(
      "labels-body",
      empty(
        "No labels were given: with --labels FILE this section says how well the scores follow people's ratings.",
      ),
    );
    return;
  }
  const figures = found.figures.map((f) => [
    f.title,
    fixed(f.value, 3),
    between(f.low, f.high, 3),
    f.unit ? `${count(f.n)} ${f.unit}` : "–",
  ]);
  const [low, high] = found.scale,
    wide = (label) => `${(100 * (label - low)) / (high - low)}%`;
  const steps = found.stretches.map((s) => [
    `${fixed(s.from, 2)} to ${fixed(s.to, 2)}`,
    node(
      "div",
      { class: "meter good", "aria-hidden": "true" },
      node("i", { vars: { wide: wide(s.label) } }),
    ),
    fixed(s.label, 2),
    count(s.n),
  ]);
  const makers = found.makers.map((m) => [
    m.name,
    fixed(m.score, 3),
    fixed(m.label, 3),
    between(m.low, m.high, 3),
    fixed(m.srcc, 3),
    count(m.n),
  ]);
  fill(
    "labels-body",
    ...[
      note(
        `${several(found.labelled, "scored image")} with a usable label, of ${several(found.prompts, "prompt")}; ${count(found.labels)} labels in ${found.where}.`,
      ),
      table(
        "How well scores follow labels",
        [
          ["Measure", "text"],
          ["Value", "number"],
          ["95 % interval", "number"],
          ["Over", "number"],
        ],
        figures,
      ),
      node("h3", {}, "Mean label by score"),
      table(
        "Mean label by score",
        [
          ["Scores", "text"],
          ["", "wide"],
          ["Mean label", "number"],
          ["Images", "number"],
        ],
        steps,
      ),
      makers.length ? node("h3", {}, "By generator") : null,
      makers.length
        ? table(
            "Scores and labels by generator",
            [
              ["Generator", "text"],
              ["Mean score", "number"],
              ["Mean label", "number"],
              ["95 % interval of the label", "number"],
              ["SRCC", "number"],
              ["Images", "number"],
            ],
            makers,
          )
        : null,
      others(found.others, "generator"),
      found.reasons.length
        ? node(
            "ul",
            { class: "muted" },
            found.reasons.map((reason) => node("li", {}, reason)),
          )
        : null,
    ].filter(Boolean),
  );
}

function overlay(first, second) {
  const frame = frameOf([first, second], 60);
  const [a, b] = [first, second].map((s) => barsOf(s, frame.from, frame.width, frame.n));
  const sum = (list) => list.reduce((x, y) => x + y, 0),
    [na, nb] = [sum(a), sum(b)];
  const most = Math.max(...a.map((n) => n / na), ...b.map((n) => n / nb));
  return node(
    "div",
    { class: "plot low", role: "img", "aria-label": "Histograms of both runs' scores" },
    node(
      "div",
      { class: "grid" },
      node("span", { vars: { up: "100%" } }, `${(100 * most).toFixed(1)} %`),
    ),
    node(
      "div",
      { class: "bars" },
      a.map((n, i) =>
        node("i", {
          class: b[i] ? "bar two" : "bar two one",
          vars: { high: `${(100 * n) / na / most}%`, other: `${(100 * b[i]) / nb / most}%` },
          title: `${(frame.from + i * frame.width) / 1000} to ${(frame.from + (i + 1) * frame.width) / 1000}: ${percent(n, na)} here, ${percent(b[i], nb)} there`,
        }),
      ),
    ),
    axis(frame),
  );
}

function drawRuns(data, open) {
  const found = data.against;
  if (!found) {
    fill(
      "runs-body",
      empty("No other run was given: with --against SCORES2 this section shows both side by side."),
    );
    return;
  }
  const c = found.counts,
    [a, b] = found.pairs;
  const say = [
    `${several(c.both, "image")} scored by both${found.isSample ? ", a sample" : ""}; ${count(c.first)} here only, ${count(c.second)} there only, ${count(c.neither)} by neither.`,
    c.onlyFirst || c.onlySecond
      ? `${several(c.onlyFirst, "sample")} of this run and ${count(c.onlySecond)} of the other are not in both tables.`
      : "",
    found.isSample
      ? "The tables do not stand row by row and are large, so these are the samples whose ids have the least hashes."
      : "",
  ]
    .filter(Boolean)
    .join(" ");
  if (!a || !b) {
    fill(
      "runs-body",
      note(`Against ${found.where}.`),
      empty(`No image has a score in both runs. ${say}`),
    );
    return;
  }
  const moved = (rows) =>
    rows.map((row) => [data.cards[data.byRow.get(row)], `${signed(found.moved[row], 2)} here`]);
  const places = rangeOf(
    found.makers.map((m) => ({ ...m, value: m.difference })),
    true,
  );
  const makers = found.makers.map((m) => [
    m.name,
    interval({ ...m, value: m.difference }, places, true),
    signed(m.difference, 3),
    known(m.low) ? `${signed(m.low, 3)} to ${signed(m.high, 3)}` : "–",
    fixed(m.first, 3),
    fixed(m.second, 3),
    count(m.n),
  ]);
  fill(
    "runs-body",
    ...[
      note(`Against ${found.where}. ${say}`),
      node(
        "p",
        { class: "lead" },
        node("strong", {}, signed(found.difference, 3)),
        node(
          "span",
          { class: "muted" },
          ` mean difference${found.interval ? ` (95 % interval ${signed(found.interval.low, 3)} to ${signed(found.interval.high, 3)})` : ""}; rank correlation `,
        ),
        node("strong", {}, fixed(found.srcc, 3)),
        node("span", { class: "muted" }, ` (Spearman, ${several(found.ranked, "image")})`),
      ),
      node(
        "p",
        { class: "legend muted" },
        node("i", { class: "swatch" }),
        "this run",
        node("i", { class: "swatch hollow" }),
        "the other",
        node("span", {}, "(share of the images that both scored)"),
      ),
      overlay(a, b),
      makers.length ? node("h3", {}, "Difference by generator") : null,
      makers.length
        ? table(
            "Difference by generator",
            [
              ["Generator", "text"],
              ["", "wide"],
              ["Difference", "number"],
              ["95 % interval", "number"],
              ["Here", "number"],
              ["There", "number"],
              ["Images", "number"],
            ],
            makers,
          )
        : null,
      others(found.others, "generator"),
      node("h3", {}, "Much higher here"),
      found.rose.length ? grid(moved(found.rose), open) : empty("None is higher here."),
      node("h3", {}, "Much lower here"),
      found.fell.length ? grid(moved(found.fell), open) : empty("None is lower here."),
    ].filter(Boolean),
  );
}

function drawOrigin(data) {
  const who = data.who.map((one) => [
    one.name,
    one.source,
    one.revision || "–",
    one.members.join(", "),
    one.package,
  ]);
  const notes = [
    `${several(data.cards.length, "image")} of ${several(data.rows, "row")} are shown on this page; counts, means and the histogram are over all rows.`,
    `The count beside the slider is exact at every multiple of ${data.scores ? data.scores.step / 1000 : 0.001}.`,
    ...data.notes,
  ];
  fill(
    "origin-body",
    node(
      "dl",
      { class: "facts" },
      [
        ["Scores", data.source],
        ["Made", data.generated],
        ["With", `tokenfocus-ray ${data.version}`],
        [
          "Ensemble",
          data.ensemble
            ? `${data.ensemble.fingerprint}, intervals of ${Math.round(100 * data.ensemble.coverage)} %`
            : null,
        ],
      ]
        .filter(([, value]) => value)
        .flatMap(([name, value]) => [node("dt", {}, name), node("dd", {}, value)]),
    ),
    who.length
      ? table(
          "Who scored",
          [
            ["Backbone", "text"],
            ["Source", "text"],
            ["Revision", "text"],
            ["Members", "text"],
            ["Scored with", "text"],
          ],
          who,
        )
      : empty("The table's metadata does not say who scored."),
    node(
      "ul",
      { class: "muted" },
      notes.map((text) => node("li", {}, text)),
    ),
  );
}
