"use strict";
// Filters the findings, and opens what a link leads to. The page says all of it without this script, too.
(() => {
  const box = document.getElementById("filter");
  const fields = ["outcome", "check", "release", "arch"].map((n) => document.getElementById("by-" + n));
  const search = document.getElementById("by-text");
  const told = document.getElementById("shown");
  const lists = [...document.querySelectorAll("#findings details")];
  const rows = lists.flatMap((list) => [...list.querySelectorAll("tbody tr")].map((row) => ({
    row, list, check: list.dataset.check, outcome: row.dataset.outcome, release: row.dataset.release,
    arch: row.dataset.arch, words: (list.dataset.check + " " + row.textContent).toLowerCase(),
  })));
  const names = ["outcome", "check", "release", "arch"];

  function apply() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const asked = words.length > 0 || fields.some((f) => f.value);
    const hits = new Map();
    let count = 0;
    for (const r of rows) {
      const fits = names.every((n, i) => !fields[i].value || r[n] === fields[i].value)
        && words.every((w) => r.words.includes(w));
      r.row.hidden = !fits;
      if (fits) { count += 1; hits.set(r.list, (hits.get(r.list) || 0) + 1); }
    }
    for (const list of lists) {
      list.hidden = asked && !hits.has(list);
      if (asked) list.open = hits.has(list) && count <= 200;
    }
    told.textContent = asked ? count + " of " + rows.length + " findings" : rows.length + " findings";
  }

  function follow() {
    const id = decodeURIComponent(location.hash.slice(1));
    const target = id && document.getElementById(id);
    if (!target) return;
    if (target.hidden) { fields.forEach((f) => { f.value = ""; }); search.value = ""; apply(); }
    for (let at = target.closest("details"); at; at = at.parentElement.closest("details")) at.open = true;
    target.scrollIntoView();
  }

  fields.forEach((f) => f.addEventListener("change", apply));
  search.addEventListener("input", apply);
  document.getElementById("clear").addEventListener("click", () => {
    fields.forEach((f) => { f.value = ""; });
    search.value = "";
    apply();
    lists.forEach((list) => { list.open = false; });
    search.focus();
  });
  addEventListener("hashchange", follow);
  box.hidden = false;
  apply();
  follow();
})();
