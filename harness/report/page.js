"use strict";
// The rows of the report. All text goes in as text, never as HTML; a row's inside is made when it is opened.
(() => {
  const AT_ONCE = 100;
  const STOPS = 12;
  const WORD = { p: "passed", f: "failed", e: "error", s: "skipped", k: "known" };
  const byId = (id) => document.getElementById(id);
  const index = JSON.parse(byId("index").textContent);
  const parts = [...document.querySelectorAll(".part")];
  const text = (number) => index.texts[number];

  const make = (tag, classes = "", ...inside) => {
    const element = document.createElement(tag);
    if (classes) element.className = classes;
    element.append(...inside.filter((part) => part !== null && part !== ""));
    return element;
  };
  const link = (address, shown) => Object.assign(make("a", "", shown), { href: address });
  // Of a gap that the host itself may have made, the part that is sure.
  const unsure = (longest, sure) => (sure === null || longest - sure < 50 ? "" : ` (${gap(sure)} of it for sure)`);
  const gap = (ms) => (ms === null ? "-" : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

  const scenarioOf = (line, place) => {
    const [id, verdict, type, from, to, template, reason, seconds, longest, rules, services, set, verdicts, bad, news, title] = line;
    const row = {
      place, seconds, longest, rules, set, verdicts, bad,
      id: text(id), verdict: WORD[verdict], type: text(type), from: text(from), to: text(to),
      template: text(template), reason: text(reason), services: text(services), title: text(title), news: news.map(text),
    };
    row.haystack = [row.id, row.verdict, row.template, row.reason, row.services, ...row.news, ...bad.map(([, why]) => text(why))].join("\n").toLowerCase();
    return row;
  };
  const scenarios = index.scenarios.map(scenarioOf);

  // "12p1f" as twelve times "p" and once "f".
  const lettersOf = (row) => row.verdicts.replace(/(\d+)(\w)/g, (_, count, letter) => letter.repeat(Number(count)));
  const checksOf = (row) => {
    const names = index.sets[row.set];
    const why = new Map(row.bad);
    return [...lettersOf(row)].map((letter, place) => ({
      place, verdict: WORD[letter], name: text(names[2 * place]), occasion: text(names[2 * place + 1]),
      reason: why.has(place) ? text(why.get(place)) : "",
    }));
  };
  const hasCheck = (row, words, value) =>
    checksOf(row).some((check) => words.includes(check.verdict) && `${check.name} (${check.occasion})`.toLowerCase().includes(value));

  const KEYS = {
    verdict: (row, value) => row.verdict === value,
    type: (row, value) => row.type.toLowerCase() === value,
    from: (row, value) => row.from.toLowerCase() === value,
    to: (row, value) => row.to.toLowerCase() === value,
    release: (row, value) => [row.from, row.to].includes(value),
    scenario: (row, value) => row.id.toLowerCase().includes(value),
    check: (row, value) => hasCheck(row, ["failed", "error"], value),
    passed: (row, value) => hasCheck(row, ["passed"], value),
    skipped: (row, value) => hasCheck(row, ["skipped"], value),
    known: (row, value) => hasCheck(row, ["known"], value),
    is: (row, value) => value === "new" && row.news.length > 0,
  };
  const tokensOf = (query) => (query.toLowerCase().match(/[^\s"]*"[^"]*"|\S+/g) || []).map((token) => token.replaceAll('"', ""));
  const fits = (row, token) => {
    const colon = token.indexOf(":");
    const test = colon > 0 && Object.hasOwn(KEYS, token.slice(0, colon)) ? KEYS[token.slice(0, colon)] : null;
    return test ? test(row, token.slice(colon + 1)) : row.haystack.includes(token);
  };

  const detailOf = async (place) => {
    const number = Math.floor(place / index.part);
    if (typeof parts[number].details === "undefined") {
      const bytes = Uint8Array.from(atob(parts[number].textContent), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
      parts[number].details = new Response(stream).json();
    }
    const { kinds, scenarios: details } = await parts[number].details;
    return { ...details[place % index.part], kinds };
  };

  // A line that stands in a log is a link to there; of a long quotation the first ones are enough for the keyboard.
  const lineOf = (line, place) => {
    if (!Array.isArray(line)) return make("li", "", line);
    return make("li", "", Object.assign(link(line[1], line[0]), { tabIndex: place < STOPS ? 0 : -1 }));
  };
  const linesOf = (lines) => Object.assign(make("ol", "lines", ...lines.map(lineOf)), { tabIndex: 0 });
  const folded = (title, build) => {
    const element = make("details", "folded", make("summary", "", title));
    element.addEventListener("toggle", () => element.childElementCount === 1 && element.append(build()), { once: true });
    return element;
  };
  const tableOf = (heads, rows) => {
    const cell = (tag, value) => (typeof value === "object" ? value : make(tag, typeof value === "number" ? "number" : "", String(value)));
    const head = make("tr", "", ...heads.map((name) => Object.assign(make("th", "", name), { scope: "col" })));
    return make("div", "scroll", make("table", "", make("thead", "", head), make("tbody", "", ...rows.map((row) => make("tr", "", ...row.map((value) => cell("td", value)))))));
  };
  const verdictOf = (word) => make("span", `badge ${word}`, word);
  const nameOf = (check) => (check.occasion ? `${check.name} (${check.occasion})` : check.name);
  const checkOf = (check, detail) => {
    const lines = detail.lines[check.place];
    return make("div", "check", verdictOf(check.verdict), " ", make("strong", "", nameOf(check)), check.reason ? `: ${check.reason}` : "", lines ? linesOf(lines) : "");
  };
  const quietTable = (checks, detail) => tableOf(["check", "reason"], checks.map((check) => [nameOf(check), detail.why[check.place] || ""]));

  const svg = (tag, attributes, shown = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = shown;
    return element;
  };
  const stepOf = (seconds, room) => [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600].find((step) => seconds / step <= room) || seconds;
  const lasting = ([begin, end]) => (end - begin < 1 ? `${Math.round((end - begin) * 1000)} ms` : `${(end - begin).toFixed(1)} s`);
  const barOf = (bar, place, y, x) => {
    const [begin, end, label, kind] = bar;
    const thin = kind === "answers";
    const box = { x: x(begin), y: thin ? y + 5 : y, width: Math.max(x(end) - x(begin), 1.5), height: thin ? 3 : 13 };
    const element = svg("rect", { ...box, class: kind.startsWith("phase") && place % 2 ? `${kind} odd` : kind });
    element.append(svg("title", {}, `${label}: ${lasting(bar)} from second ${begin}`));
    return element;
  };
  const short = (label, width) => (label.length * 6 > width ? `${label.slice(0, Math.floor(width / 6))}…` : label);
  // Bars are numbers, three each: hundredths of a second since the bar before, how many long, which kind.
  const barsOf = (numbers, kinds) => {
    const bars = [];
    for (let place = 0, begin = 0; place < numbers.length; place += 3) {
      begin += numbers[place];
      bars.push([begin / 100, (begin + numbers[place + 1]) / 100, ...kinds[numbers[place + 2]]]);
    }
    return bars;
  };
  const drawingOf = ([occasion, start, seconds, lanes], kinds, width) => {
    const x = (t) => Math.round((t / seconds) * (width - 40) * 10) / 10 + 2;
    const height = lanes.length * 32 + 26;
    const told = `${occasion || "patch"}: ${seconds.toFixed(1)} s from second ${start.toFixed(1)} of the run; ${lanes.length} lanes: ${lanes.map(([label]) => label).join(", ")}`;
    const drawing = svg("svg", { class: "drawing", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told });
    const step = stepOf(seconds, width / 60);
    for (let t = 0; t <= seconds; t += step) {
      drawing.append(svg("line", { x1: x(t), x2: x(t), y1: 16, y2: height }));
      drawing.append(svg("text", { x: x(t), y: 11, class: "axis" }, `${Math.round(t * 10) / 10} s`));
    }
    lanes.forEach(([label, numbers], lane) => {
      const bars = barsOf(numbers, kinds);
      const y = 22 + lane * 32;
      const told = bars.length < 7 && !label.includes(" ") ? bars.map((bar) => `${bar[2]} ${lasting(bar)}`).join(", ") : "";
      drawing.append(svg("text", { x: 2, y: y + 9 }, short(told && told !== label ? `${label}: ${told}` : label, width)));
      drawing.append(...bars.map((bar, place) => barOf(bar, place, y + 13, x)));
    });
    return drawing;
  };

  const patchParts = (detail, width) => {
    const found = [];
    for (const [occasion, success, seconds, said, log] of detail.patches) {
      found.push(make("h3", "", `${occasion || "patch"}: ${success ? "succeeded" : "failed"} in ${seconds} s`), make("p", "", said));
      if (log) found.push(folded(`what the script logged of it, ${log.length} lines`, () => linesOf(log)));
    }
    for (const drawing of detail.drawings) {
      found.push(make("h3", "", `${drawing[0] || "patch"}, second by second`), drawingOf(drawing, detail.kinds, width));
    }
    if (detail.probes.length) {
      const heads = ["probe", "during", "sent", "lost", "longest gap", "budget", "broken streams"];
      const rows = detail.probes.map(([occasion, name, sent, lost, longest, budget, broken, sure]) => [name, occasion, sent, lost, gap(longest) + unsure(longest, sure), gap(budget), broken]);
      found.push(folded(`${detail.probes.length} probes in numbers`, () => tableOf(heads, rows)));
    }
    return found;
  };
  const stepTable = (steps) =>
    tableOf(["at second", "step", "seconds", "verdict"], steps.map(([t, title, seconds, verdict, reason]) => [t, title, seconds === null ? "did not end" : seconds, `${verdict} ${reason}`.trim()]));

  const fill = async (panel, row) => {
    const detail = await detailOf(row.place);
    const checks = checksOf(row);
    const of = (...words) => checks.filter((check) => words.includes(check.verdict));
    const bad = of("failed", "error");
    if (detail.logs.length) {
      const links = detail.logs.flatMap(([name, page]) => [link(page || name.split("/").map(encodeURIComponent).join("/"), name.split("/").pop()), " "]);
      panel.append(make("p", "logs", "logs: ", ...links));
    }
    panel.append(...bad.map((check) => checkOf(check, detail)));
    if (detail.retried.length) panel.append(make("h3", "", "made again after"), make("ul", "", ...detail.retried.map((line) => make("li", "", line))));
    if (row.news.length) panel.append(make("h3", "", "new"), make("ul", "", ...row.news.map((line) => make("li", "", line))));
    panel.append(...patchParts(detail, Math.max(320, Math.min(panel.clientWidth || 900, 1200))));
    for (const word of ["known", "passed", "skipped"]) {
      const quiet = of(word);
      const said = word === "known" ? "known failures" : `checks ${word}`;
      if (quiet.length) panel.append(folded(`${quiet.length} ${said}`, () => quietTable(quiet, detail)));
    }
    if (detail.steps.length) panel.append(folded(`${detail.steps.length} steps`, () => stepTable(detail.steps)));
  };

  const factsOf = (row) => {
    const letters = lettersOf(row);
    const count = (...wanted) => [...letters].filter((letter) => wanted.includes(letter)).length;
    return [
      row.template,
      row.services && `restarted ${row.services}`,
      row.rules === null ? "" : `${row.rules} rules`,
      row.longest === null ? "" : `longest gap ${gap(row.longest)}`,
      `${count("p")} passed, ${count("f", "e")} failed, ${count("s")} skipped${count("k") ? `, ${count("k")} known failures` : ""}`,
      row.seconds === null ? "" : `${row.seconds} s`,
    ].filter(Boolean).join("; ");
  };
  const rowOf = (row) => {
    const why = row.reason ? make("span", `why ${row.verdict}`, row.reason) : "";
    const summary = make("summary", "", verdictOf(row.verdict), make("span", "id", row.id), row.news.length ? make("span", "badge skipped", "new") : "", " ", make("span", "facts", factsOf(row)), why);
    const element = make("details", "row", summary);
    element.row = row;
    element.addEventListener("toggle", () => {
      if (!element.open || element.childElementCount > 1) return;
      const panel = make("div", "panel", row.title ? make("p", "dim", row.title) : "");
      element.append(panel);
      fill(panel, row).then(() => panel.setAttribute("data-ready", ""));
    });
    return element;
  };

  const rows = byId("rows");
  const more = byId("more");
  let shown = [];
  const grow = (least = 0) => {
    const from = rows.childElementCount;
    rows.append(...shown.slice(from, Math.max(from + AT_ONCE, least)).map(rowOf));
    more.hidden = rows.childElementCount >= shown.length;
  };
  const input = byId("filter");
  const apply = () => {
    const tokens = tokensOf(input.value);
    shown = scenarios.filter((row) => tokens.every((token) => fits(row, token)));
    byId("count").textContent = `${shown.length} of ${scenarios.length}`;
    for (const button of document.querySelectorAll("[data-filter]")) {
      button.setAttribute("aria-pressed", String(tokensOf(button.dataset.filter).every((token) => tokens.includes(token))));
    }
    rows.replaceChildren();
    grow();
  };
  // A button's words replace others of the same kind, or go when they are there.
  const toggle = (button) => {
    const own = tokensOf(button.dataset.filter);
    const kinds = own.map((token) => token.split(":")[0]);
    const others = tokensOf(input.value).filter((token) => !kinds.includes(token.split(":")[0]));
    input.value = (button.getAttribute("aria-pressed") === "true" ? others : [...others, ...own]).join(" ");
    apply();
  };
  const follow = () => {
    let wanted = location.hash.slice(1);
    try {
      wanted = decodeURIComponent(wanted);
    } catch {
      return;
    }
    const row = scenarios.find((one) => one.id === wanted);
    if (!row) return;
    if (!shown.includes(row)) {
      input.value = "";
      apply();
    }
    grow(shown.indexOf(row) + 1);
    const element = rows.children[shown.indexOf(row)];
    element.open = true;
    element.scrollIntoView();
    element.firstElementChild.focus({ preventScroll: true });
  };

  let typing = 0;
  input.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(apply, 60);
  });
  for (const button of document.querySelectorAll("[data-filter]")) button.addEventListener("click", () => toggle(button));
  more.addEventListener("click", () => grow());
  new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && !more.hidden && grow()).observe(more);
  addEventListener("hashchange", follow);
  apply();
  follow();
  if (index.common) {
    const own = scenarioOf(index.common, scenarios.length);
    byId("common").hidden = false;
    fill(byId("common"), own);
  }
  document.documentElement.setAttribute("data-usable", String(Math.round(performance.now())));
})();
