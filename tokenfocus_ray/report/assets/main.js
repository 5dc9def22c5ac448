// Puts the page together from its data.

function setUpTheme() {
  const order = ["auto", "light", "dark"],
    button = byId("theme");
  let theme = "auto";
  try {
    theme = localStorage.getItem("tokenfocus-theme") || "auto";
  } catch {
    /* kept for this visit only */
  }
  function show() {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  }
  button.addEventListener("click", () => {
    theme = order[(order.indexOf(theme) + 1) % order.length];
    try {
      localStorage.setItem("tokenfocus-theme", theme);
    } catch {
      /* likewise */
    }
    show();
  });
  show();
}

function main() {
  const data = JSON.parse(byId("data").textContent);
  data.byRow = new Map(data.cards.map((card, i) => [card.row, i]));
  byId("title").textContent = data.title;
  byId("about").textContent = [
    `${several(data.rows, "image")}`,
    data.members.length ? `scored by ${several(data.members.length, "member")}` : "",
    data.generated,
  ]
    .filter(Boolean)
    .join(" · ");
  fill(
    "nav",
    ...[...document.querySelectorAll("main > section")].map((section) =>
      node("a", { href: `#${section.id}` }, section.querySelector("h2").textContent),
    ),
  );
  setUpTheme();
  drawStats(data);
  const open = setUpDialog(data);
  setUpThreshold(data, setUpGallery(data, open));
  drawElements(data);
  drawGenerators(data);
  drawUnscored(data);
  drawLabels(data);
  drawRuns(data, open);
  drawOrigin(data);
}

main();
