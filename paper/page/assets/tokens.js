// Two runs' training episodes side by side, every token in the colour of its credit.

const NUMBERS = ["credit", "gap", "teacher", "student", "distill", "target"];
const TOLD = {
  credit: "credit",
  gap: "gap (nats)",
  teacher: "teacher's log-probability",
  student: "policy's log-probability",
  distill: "distillation weight",
  target: "divergence weight",
};

parts.push((known) => {
  const section = document.getElementById("credit");
  const runs = known.groups.flatMap((group) => group.runs.filter((run) => run.tokens).map((run) => ({ group, run })));
  if (!runs.length) {
    section.querySelector(".controls").append("None of these runs kept its tokens: they are of an older version.");
    return;
  }
  new Viewer(section, runs, known.groups).start();
});

class Viewer {
  constructor(section, runs, groups) {
    Object.assign(this, { section, runs });
    const options = runs.map(({ group, run }, place) => [place, `${groupTitle(group, groups)}, seed ${run.seed}`]);
    this.left = choice("Left", options, () => this.load());
    this.right = choice("Right", options, () => this.load());
    this.update = choice("Update", [], () => this.again());
    this.episode = choice("Episode", [], () => this.draw());
    this.shown = choice("Colour", NUMBERS.map((name) => [name, TOLD[name]]), () => this.draw());
    const all = [this.left, this.right, this.update, this.episode, this.shown];
    section.querySelector(".controls").append(...all.map((own) => own.element));
    const other = runs.findIndex(({ group, run }) => group !== runs[0].group && run.seed === runs[0].run.seed);
    this.right.select.value = Math.max(other, 0);
  }

  async start() {
    this.watch = new IntersectionObserver((seen) => seen.some((own) => own.isIntersecting) && (this.watch.disconnect(), this.load()));
    this.watch.observe(this.section);
  }

  async load() {
    const sides = [this.left, this.right].map(({ select }) => this.runs[Number(select.value)]);
    const asked = (this.asked = (this.asked ?? 0) + 1);
    this.clear("");
    try {
      const kept = await Promise.all(sides.map(({ group, run }) => blob(runKey(group, run))));
      if (asked !== this.asked) return; // others have been chosen meanwhile
      this.kept = kept;
    } catch (problem) {
      if (asked === this.asked) this.clear(problem.message);
      return;
    }
    const [one, other] = this.kept.map((own) => Object.keys(own));
    const updates = one.filter((update) => other.includes(update));
    offer(this.update.select, updates.map((update) => [update, update]));
    if (updates.length) this.again();
    else this.clear(`These runs kept no update in common: ${one.join(", ")}; ${other.join(", ")}.`);
  }

  /** Nothing is shown that is not of the runs that are chosen. */
  clear(text) {
    this.kept = null;
    for (const part of [".sides", ".scale"]) this.section.querySelector(part).replaceChildren();
    this.say(text);
  }

  again() {
    if (!this.kept) return;
    const episodes = this.kept.map((own) => own[this.update.select.value] ?? []);
    const count = Math.max(...episodes.map((own) => own.length));
    offer(this.episode.select, [...Array(count).keys()].map((place) => [place, String(place + 1)]));
    this.draw();
  }

  draw() {
    if (!this.kept) return;
    const name = this.shown.select.value;
    const column = 2 + NUMBERS.indexOf(name);
    const episodes = this.kept.map((own) => own[this.update.select.value]?.[Number(this.episode.select.value)]);
    const values = episodes.flatMap((own) => (own ? own.turns.flatMap((turn) => turn.tokens.map((token) => token[column])) : []));
    const reach = Math.max(...values.filter((value) => value !== null).map(Math.abs), 0);
    const edge = reach.toPrecision(2);
    this.section.querySelector(".scale").replaceChildren(
      ...(reach ? [`−${edge} `, make("span", { class: "ramp", "aria-hidden": "true" }), ` +${edge}`] : [`No token has a ${TOLD[name]} here.`]),
    );
    const heads = [this.left, this.right].map(({ select }) => select.selectedOptions[0].textContent);
    this.section.querySelector(".sides").replaceChildren(...episodes.map((own, side) => this.side(own, heads[side], column, reach)));
  }

  side(episode, head, column, reach) {
    const box = make("div", { class: "side", tabindex: "0", role: "group", "aria-label": head, on: { keydown: (event) => this.move(event) } });
    if (!episode) {
      box.append(make("p", {}, "No such episode."));
      return box;
    }
    const end = episode.success ? "succeeded" : "failed";
    box.append(make("h3", {}, head), make("p", {}, `${episode.task}: ${end}, reward ${episode.reward}`));
    if (episode.hint) box.append(make("details", {}, make("summary", {}, "What the teacher was shown"), make("pre", {}, episode.hint)));
    box.append(...episode.turns.map((turn, place) => this.turn(turn, place, column, reach)));
    return box;
  }

  turn(turn, place, column, reach) {
    const tokens = turn.tokens.map((token) => this.token(token, column, reach));
    const head = `${place + 1}. ${turn.action || "no action"}${turn.valid ? "" : " (invalid)"}`;
    return make("details", { open: "" }, make("summary", {}, head), make("pre", { class: "read" }, turn.read), make("p", { class: "tokens" }, ...tokens));
  }

  token(token, column, reach) {
    const value = token[column];
    const share = value === null || !reach ? 0 : value / reach;
    const style = `--plus:${Math.max(share, 0).toFixed(3)};--minus:${Math.max(-share, 0).toFixed(3)}`;
    const span = make("span", { class: `token ${token[1]}`, style, title: this.told(token) }, token[0]);
    span.addEventListener("click", () => this.mark(span));
    return span;
  }

  told(token) {
    const numbers = NUMBERS.map((name, place) => [TOLD[name], token[2 + place]]).filter(([, value]) => value !== null);
    return [`${JSON.stringify(token[0])} (${token[1]})`, ...numbers.map(([name, value]) => `${name} ${value}`)].join("; ");
  }

  move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const tokens = [...event.currentTarget.querySelectorAll(".token")];
    const now = tokens.findIndex((own) => own.classList.contains("now"));
    this.mark(tokens[Math.min(Math.max(now + step, 0), tokens.length - 1)]);
  }

  mark(token) {
    for (const other of this.section.querySelectorAll(".token.now")) other.classList.remove("now");
    token.classList.add("now");
    token.closest("details").open = true;
    token.scrollIntoView({ block: "nearest" });
    this.say(token.title);
  }

  say(text) {
    this.section.querySelector(":scope > .said").textContent = text;
  }
}
