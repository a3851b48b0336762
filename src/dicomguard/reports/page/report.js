"use strict";
for (const figure of document.querySelectorAll("figure.map")) {
  const size = Number(figure.dataset.size);
  const placed = [...figure.querySelectorAll("[data-o]")];
  const entropy = figure.querySelector(".entropy");
  const says = figure.querySelector("output");
  const buttons = [...figure.querySelectorAll("button")];
  let lo = 0, hi = size;

  const bytes = (n) => {
    const units = ["bytes", "KiB", "MiB", "GiB"];
    let unit = 0;
    while (n >= 1024 && unit < 3) { n /= 1024; unit += 1; }
    return (unit ? n.toFixed(1) : Math.round(n)) + " " + units[unit];
  };

  const zoom = (from, to) => {
    const width = Math.min(size, Math.max(64, to - from));
    lo = Math.min(Math.max(0, from), size - width);
    hi = lo + width;
    for (const each of placed) {
      const start = Number(each.dataset.o), length = Number(each.dataset.n || 0);
      const first = Math.max(start, lo), last = Math.min(start + length, hi);
      each.setAttribute("x", (100 * (first - lo) / width) + "%");
      if (each.dataset.n) each.setAttribute("width", (100 * Math.max(0, last - first) / width) + "%");
      const outside = each.dataset.n ? last <= first : start < lo || start > hi;
      each.style.display = outside ? "none" : "";
    }
    if (entropy) {
      const all = Number(entropy.dataset.w);
      entropy.setAttribute("viewBox", `${all * lo / size} 0 ${all * width / size} 8.4`);
    }
    figure.querySelector(".lo").textContent = bytes(lo);
    figure.querySelector(".hi").textContent = bytes(hi);
    for (const each of buttons) {
      const same = Number(each.dataset.lo) === from && Number(each.dataset.hi) === to;
      each.setAttribute("aria-pressed", String(same));
    }
  };

  const say = (event) => {
    const told = event.target.closest("[data-t]");
    if (told) says.textContent = told.dataset.t;
    for (const each of placed) each.classList.toggle("at", each === told);
  };
  figure.addEventListener("mouseover", say);
  figure.addEventListener("focusin", say);
  for (const each of buttons) {
    each.addEventListener("click", () => zoom(Number(each.dataset.lo), Number(each.dataset.hi)));
  }
  figure.addEventListener("keydown", (event) => {
    const width = hi - lo, middle = (lo + hi) / 2;
    const steps = {
      "+": [middle - width / 4, middle + width / 4],
      "=": [middle - width / 4, middle + width / 4],
      "-": [middle - width, middle + width],
      "0": [0, size],
      "ArrowLeft": [lo - width / 4, hi - width / 4],
      "ArrowRight": [lo + width / 4, hi + width / 4],
    };
    if (event.key in steps) {
      event.preventDefault();
      zoom(...steps[event.key]);
    }
  });
}
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details")) each.open = true;
});
