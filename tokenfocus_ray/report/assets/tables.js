// The sections below the images: tables, each with its words where there is nothing to show.

const others = (n, what) =>
  n ? note(`${several(n, "more " + what)} with fewer images not listed.`) : null;

function drawStats(data) {
  const [failed, present] = data.states;
  const facts = [
    ["Images", count(data.rows), null],
    ["Scored", percent(data.scored, data.rows), `${count(data.scored)} of ${count(data.rows)}`],
    [
      "Mean score",
      fixed(data.mean, 2),
      data.scale ? `on a scale of ${data.scale[0]} to ${data.scale[1]}` : null,
    ],
    ["Median score", fixed(data.quantiles[1], 2), null],
    [
      "Elements present",
      percent(present, failed + present),
      failed + present ? `${count(present)} of ${count(failed + present)}` : "no elements",
    ],
    [
      "Disagreement",
      known(data.disagreement) ? `±${fixed(data.disagreement, 2)}` : "–",
      known(data.disagreement) ? "members, standard deviation" : "one member only",
    ],
  ];
  fill(
    "stats",
    facts.map(([name, value, more]) =>
      node(
        "div",
        {},
        node("dt", {}, name),
        node("dd", {}, value),
        node("dd", { class: "muted" }, more || " "),
      ),
    ),
  );
}

function drawElements(data) {
  const { kinds, makers, matrix } = data;
  if (!kinds.listed.length) {
    fill(
      "elements-body",
      empty(
        "No elements: the table has none, or none that was scored. `tokenfocus data elements` makes elements from prompts.",
      ),
    );
    return;
  }
  const share = (k) => (k.n ? k.failed / k.n : 0);
  const bar = (k) =>
    node(
      "div",
      { class: "meter", "aria-hidden": "true" },
      node("i", { vars: { wide: `${100 * share(k)}%` } }),
    );
  const rows = kinds.listed.map((k) => [
    k.name,
    bar(k),
    percent(k.failed, k.n),
    count(k.failed),
    count(k.n),
    k.unknown ? count(k.unknown) : "–",
  ]);
  const parts = [
    note(
      `An element fails with a score below ${data.elementThreshold}${data.dependencies ? ", or where one that it depends on fails" : ""}.`,
    ),
    table(
      "Failing elements by type",
      [
        ["Type", "text"],
        ["", "wide"],
        ["Failed", "number"],
        ["Elements failed", "number"],
        ["of", "number"],
        ["Not known", "number"],
      ],
      rows,
    ),
    others(kinds.others, "type"),
    kinds.capped
      ? note("The table has very many types: those counted here were chosen at random.")
      : null,
  ];
  if (makers.listed.length) {
    const cells = makers.listed.map((maker, m) => [
      maker.name,
      ...matrix[m].map(([failed, n]) =>
        n
          ? node(
              "span",
              {
                class: "heat",
                vars: { much: `${(60 * failed) / n}%` },
                title: `${count(failed)} of ${count(n)} failed`,
              },
              `${Math.round((100 * failed) / n)} %`,
            )
          : "–",
      ),
    ]);
    parts.push(
      node("h3", {}, "By generator and type"),
      note("Share of elements that failed."),
      table(
        "Failing elements by generator and type",
        [["Generator", "text"], ...kinds.listed.map((k) => [k.name, "number"])],
        cells,
      ),
    );
  }
  fill("elements-body", ...parts.filter(Boolean));
}

function drawGenerators(data) {
  const { listed, unnamed } = data.makers;
  if (!listed.length) {
    fill(
      "generators-body",
      empty(
        "No generator column: the table says nowhere which model made an image. A column `generator`, `model` or `model_name` does, or name one with --map generator=COLUMN.",
      ),
    );
    return;
  }
  const axis = rangeOf(listed.map((m) => ({ ...m, value: m.mean })));
  const rows = listed.map((m, i) => [
    `${i + 1}. ${m.name}`,
    interval({ ...m, value: m.mean }, axis),
    fixed(m.mean, 3),
    between(m.low, m.high, 3),
    known(m.first) ? (m.first === m.last ? String(m.first) : `${m.first} to ${m.last}`) : "–",
    count(m.n),
    percent(m.elements.failed, m.elements.n),
  ]);
  fill(
    "generators-body",
    ...[
      note(
        "By mean score. Intervals and places hold for other prompts of the same kind, with 95 % confidence: groups of prompts are drawn anew a thousand times, the same for every generator.",
      ),
      table(
        "Generators by mean score",
        [
          ["Generator", "text"],
          ["", "wide"],
          ["Mean score", "number"],
          ["95 % interval", "number"],
          ["Place", "number"],
          ["Images", "number"],
          ["Elements failed", "number"],
        ],
        rows,
      ),
      others(data.makers.others, "generator"),
      data.makers.capped
        ? note(
            "The column has very many different names: those counted here were chosen at random.",
          )
        : null,
      unnamed ? note(`${several(unnamed, "scored image")} without a generator.`) : null,
    ].filter(Boolean),
  );
}

function drawUnscored(data) {
  const missing = data.rows - data.scored;
  if (!missing) {
    fill("unscored-body", empty(`Every one of the ${several(data.rows, "row")} has a score.`));
    return;
  }
  const rows = data.unscored.map((one) => [
    node("code", {}, one.code),
    count(one.n),
    percent(one.n, data.rows),
    one.meaning || "–",
    `row ${count(one.row)}: ${one.message || "no message"}`,
  ]);
  const listed = data.unscored.reduce((sum, one) => sum + one.n, 0);
  const rest =
    listed < missing ? [note(`${several(missing - listed, "more row")} of other reasons.`)] : [];
  fill(
    "unscored-body",
    note(`${several(missing, "row")} of ${count(data.rows)} (${percent(missing, data.rows)}).`),
    table(
      "Rows without a score by reason",
      [
        ["Reason", "text"],
        ["Rows", "number"],
        ["Share", "number"],
        ["What it means", "text"],
        ["For example", "text"],
      ],
      rows,
    ),
    ...rest,
  );
}
