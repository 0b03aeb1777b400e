// Outcomes task by task, and the list of episodes that a cell of a table or of the grid stands for.

const FEW = 200;
const HEADS = ["Task", "Seed", "Sample", "Success", "Turns", "Invalid actions"];

parts.push((known) => {
  blob("episodes").then((all) => {
    const groups = known.groups;
    startGrid(groups, all);
    startEpisodes(groups, all);
  });
});

/** Rows of a group's runs: [task, sample, success, turns, invalid, seed]. Episodes that runs share count once. */
function rowsOf(group, all, when) {
  const known = new Set();
  return group.runs.flatMap((run) => {
    const rows = all.runs[runKey(group, run)][when];
    const text = JSON.stringify(rows);
    if (when === "before" && known.has(text)) return [];
    known.add(text);
    return rows.map((row) => [...row, run.seed]);
  });
}

function startGrid(groups, all) {
  const section = document.getElementById("grid");
  const tasks = choice("Tasks", [...new Set(groups.map((own) => own.tasks))].map((own) => [own, own]), () => chosen());
  const subset = choice("Subset", [], () => draw());
  section.querySelector(".controls").append(tasks.element, subset.element);
  const ours = () => groups.filter((group) => group.tasks === tasks.select.value);
  const draw = () => section.querySelector(".wide").replaceChildren(gridOf(ours(), all, subset.select.value));
  const chosen = () => {
    offer(subset.select, (ours()[0]?.subsets ?? []).map((own) => [own, own]));
    draw();
  };
  chosen();
}

function gridOf(groups, all, subset) {
  const shares = groups.map((group) => sharesOf(group, all, subset));
  const tasks = [...new Set(shares.flatMap((own) => [...own.keys()]))].sort((a, b) => a - b);
  const body = groups.map((group, place) =>
    make("tr", {}, make("th", { scope: "row" }, groupTitle(group, groups)), ...tasks.map((task) => gridCell(group, all.tasks[task][0], shares[place].get(task)))),
  );
  return make("table", { class: "grid", "aria-label": `Outcomes on ${subset}` }, make("tbody", {}, ...body));
}

function sharesOf(group, all, subset) {
  const found = new Map();
  for (const [task, , success] of rowsOf(group, all, "after")) {
    if (all.tasks[task][1] !== subset) continue;
    const [wins, n] = found.get(task) ?? [0, 0];
    found.set(task, [wins + success, n + 1]);
  }
  return found;
}

function gridCell(group, task, share) {
  if (!share) return make("td", {});
  const [wins, n] = share;
  const link = `#episodes/${[group.tasks, group.name, "", "after", task].map(encodeURIComponent).join("/")}`;
  const told = `${group.name}, ${task}: ${wins} of ${n}`;
  const style = `--share:${(wins / n).toFixed(3)}`;
  return make("td", {}, make("a", { href: link, title: told, "aria-label": told, style }, ""));
}

function startEpisodes(groups, all) {
  const section = document.getElementById("episodes");
  const act = () => (location.hash = hashOf());
  const group = choice("Runs of", groups.map((own, place) => [place, groupTitle(own, groups)]), () => act());
  const subset = choice("Subset", [], () => act());
  const when = choice("", [["after", "after training"], ["before", "before training"]], () => act());
  const outcome = choice("Outcome", [["", "all"], ["1", "succeeded"], ["0", "failed"]], () => show());
  section.querySelector(".controls").append(group.element, subset.element, when.element, outcome.element);
  let task = "";
  const own = () => groups[Number(group.select.value)];
  const hashOf = () => `#episodes/${[own().tasks, own().name, subset.select.value, when.select.value].map(encodeURIComponent).join("/")}`;
  const show = () => {
    const rows = rowsOf(own(), all, when.select.value).filter(
      ([place, , success]) =>
        (!subset.select.value || all.tasks[place][1] === subset.select.value) &&
        (!task || all.tasks[place][0] === task) &&
        (!outcome.select.value || success === Number(outcome.select.value)),
    );
    const wins = rows.reduce((sum, row) => sum + row[2], 0);
    section.querySelector(".said").textContent = `${rows.length} episodes${task ? ` of ${task}` : ""}, ${wins} succeeded`;
    section.querySelector(".wide").replaceChildren(...episodeTable(rows, all));
  };
  const follow = () => {
    const [where, tasks, name, wanted, end, one] = location.hash.split("/").map(decoded);
    if (where !== "#episodes" || tasks === undefined) return;
    const place = groups.findIndex((other) => other.tasks === tasks && other.name === name);
    if (place < 0) return;
    group.select.value = place;
    offer(subset.select, subsetsOf(own()));
    [subset.select.value, when.select.value, task] = [wanted, end, one ?? ""];
    show();
    section.scrollIntoView();
  };
  if (!groups.length) return;
  offer(subset.select, subsetsOf(own()));
  show();
  addEventListener("hashchange", follow);
  follow();
}

/** What a part of an address says; one that nobody wrote so says nothing. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}

const subsetsOf = (group) => [["", "all"], ...group.subsets.map((own) => [own, own])];

/** The first rows, and a button for more: a page of ten thousand episodes opens at once. */
function episodeTable(rows, all) {
  const body = make("tbody");
  const add = (from) => body.append(...rows.slice(from, from + FEW).map((row) => episodeRow(row, all)));
  add(0);
  const head = make("thead", {}, make("tr", {}, ...HEADS.map((name) => make("th", { scope: "col" }, name))));
  const table = make("table", { class: "plain" }, head, body);
  if (rows.length <= FEW) return [table];
  const more = make("button", { type: "button", on: { click: grow } }, `${FEW} more`);
  function grow() {
    add(body.rows.length);
    if (body.rows.length >= rows.length) more.remove();
  }
  return [table, more];
}

function episodeRow([place, sample, success, turns, invalid, seed], all) {
  const cells = [seed, sample, success ? "yes" : "no", turns, invalid].map((value) => make("td", {}, String(value)));
  return make("tr", {}, make("th", { scope: "row" }, all.tasks[place][0]), ...cells);
}
