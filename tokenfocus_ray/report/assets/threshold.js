// Histogram, slider and command. Places on the axis are whole thousandths, so that sums are exact.

function barsOf(scores, from, width, n) {
  const bars = new Array(n).fill(0);
  scores.counts.forEach((c, b) => {
    bars[Math.floor((scores.low + b * scores.step - from) / width)] += c;
  });
  return bars;
}

function frameOf(all, most) {
  const low = Math.min(...all.map((s) => s.low));
  const high = Math.max(...all.map((s) => s.low + s.counts.length * s.step));
  const width = barWidth(high - low, Math.max(...all.map((s) => s.step)), most);
  const from = Math.floor(low / width) * width;
  const n = Math.max(1, Math.ceil((high - from) / width));
  return { from, width, n, to: from + n * width };
}

function axis(frame) {
  return node(
    "div",
    { class: "axis", "aria-hidden": "true" },
    ticks(frame.from, frame.to, 8).map((at) =>
      node(
        "span",
        { vars: { at: `${(100 * (at - frame.from)) / (frame.to - frame.from)}%` } },
        String(at / 1000),
      ),
    ),
  );
}

function kept(scores, threshold) {
  const first = Math.max(0, Math.ceil((threshold - scores.low) / scores.step));
  let n = 0;
  for (let b = first; b < scores.counts.length; b++) n += scores.counts[b];
  return n;
}

function drawPlot(scores, frame) {
  const bars = barsOf(scores, frame.from, frame.width, frame.n),
    most = Math.max(...bars);
  const bar = (n, i) =>
    node("i", {
      class: "bar",
      vars: { high: `${(100 * n) / most}%` },
      title: `${(frame.from + i * frame.width) / 1000} to ${(frame.from + (i + 1) * frame.width) / 1000}: ${several(n, "image")}`,
    });
  fill(
    "plot",
    node(
      "div",
      { class: "grid" },
      [1, 0.5].map((share) =>
        node("span", { vars: { up: `${100 * share}%` } }, count(Math.round(most * share))),
      ),
    ),
    node("div", { class: "bars" }, bars.map(bar)),
    node("div", { class: "cut" }),
    axis(frame),
  );
}

function setUpThreshold(data, onChange) {
  const { scores, command } = data;
  if (!scores) {
    fill(
      "selection-body",
      empty("No row has a score, so there is nothing to choose from. The reasons are below."),
    );
    return;
  }
  const frame = frameOf([scores], 80);
  const slider = byId("threshold"),
    exact = byId("exact"),
    plot = byId("plot");
  const step = Math.max(scores.step, frame.to - frame.from > 400 ? 10 : 1);
  drawPlot(scores, frame);
  Object.assign(slider, { min: frame.from, max: frame.to, step });
  Object.assign(exact, { min: frame.from / 1000, max: frame.to / 1000, step: scores.step / 1000 });
  byId("quantiles").textContent =
    `median ${fixed(data.quantiles[1], 3)}, middle 80 % from ${fixed(data.quantiles[0], 3)} to ${fixed(data.quantiles[2], 3)}`;

  function show(threshold) {
    const n = kept(scores, threshold),
      text = String(threshold / 1000);
    const share = (100 * (threshold - frame.from)) / (frame.to - frame.from);
    byId("stay").replaceChildren(
      node("strong", {}, count(n)),
      ` of ${several(data.rows, "image")} stay`,
      node(
        "span",
        { class: "muted" },
        ` (${percent(n, data.rows)}), with a score of ${text} or more`,
      ),
    );
    plot.setAttribute(
      "aria-label",
      `Histogram of ${several(data.scored, "score")}; ${count(n)} are ${text} or more`,
    );
    plot.style.setProperty("--at", `${share}%`);
    plot.querySelectorAll(".bar").forEach((bar, i) => {
      const inside = (threshold - frame.from) / frame.width - i;
      bar.style.setProperty("--cut", `${100 * Math.min(1, Math.max(0, inside))}%`);
    });
    slider.setAttribute("aria-valuetext", `${text}: ${count(n)} of ${count(data.rows)} stay`);
    byId("command").textContent = `${command[0]} ${text} ${command[1]}`;
    onChange(threshold);
  }
  slider.addEventListener("input", () => {
    exact.value = slider.value / 1000;
    show(Number(slider.value));
  });
  exact.addEventListener("input", () => {
    if (exact.value === "") return;
    // to the edge of a bin, where the count is exact
    const at = Math.round((Number(exact.value) * 1000) / scores.step) * scores.step;
    slider.value = at;
    show(at);
  });
  exact.addEventListener("change", () => {
    if (exact.value === "") exact.value = slider.value / 1000;
  });
  slider.value = Math.round((data.quantiles[1] * 1000) / step) * step;
  exact.value = slider.value / 1000;
  show(Number(slider.value));

  const copy = byId("copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(byId("command").textContent);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(byId("command"));
      copy.textContent = "Selected";
    }
    setTimeout(() => {
      copy.textContent = "Copy";
    }, 1600);
  });
}
