"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  document.documentElement.classList.add("js");

  // One entity at a time: picked from the list, by the buttons, or by a link to it.
  const sections = [...document.querySelectorAll(".entity")];
  const pick = $("pick");
  const show = (id) => {
    sections.forEach((one) => one.classList.toggle("current", one.id === id));
    pick.value = id;
    $("previous").disabled = pick.selectedIndex === 0;
    $("next").disabled = pick.selectedIndex === pick.options.length - 1;
    document.querySelectorAll("#ranking tbody tr").forEach((row) => {
      row.classList.toggle("current", row.querySelector("a").hash === `#${id}`);
    });
  };
  const step = (by) => show(pick.options[pick.selectedIndex + by].value);
  const fromAddress = () => {
    const found = sections.find((one) => `#${one.id}` === location.hash);
    if (!found) return false;
    show(found.id);
    found.focus({ preventScroll: true });
    found.scrollIntoView();
    return true;
  };
  if (sections.length) {
    document.querySelector(".picker").hidden = false;
    pick.addEventListener("change", () => show(pick.value));
    $("previous").addEventListener("click", () => step(-1));
    $("next").addEventListener("click", () => step(1));
    window.addEventListener("hashchange", fromAddress);
    if (!fromAddress()) show(sections[0].id);
  }

  // The ranking, sorted by the column chosen; chosen again, the other way round.
  const body = document.querySelector("#ranking tbody");
  document.querySelectorAll("#ranking thead button").forEach((button) => {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const numeric = button.dataset.sort === "number";
      const first = numeric && head.cellIndex > 0 ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      head.parentNode.querySelectorAll("th").forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => {
        const cell = row.cells[head.cellIndex];
        if (!numeric) return cell.textContent;
        return cell.dataset.value === "" ? -Infinity : Number(cell.dataset.value);
      };
      const compare = (a, b) => (a === b ? 0 : (numeric ? a < b : a.localeCompare(b) < 0) ? -1 : 1);
      [...body.rows].sort((a, b) => sign * compare(value(a), value(b))).forEach((row) => body.append(row));
    });
  });

  // A reading under the pointer, or by the arrow keys.
  const clock = (ms) => new Date(ms).toISOString().slice(0, 19).replace("T", " ");
  document.querySelectorAll(".plot[data-readings]").forEach((plot) => {
    const { from, to, width, readings, name } = plot.dataset;
    const readout = plot.closest("figure").querySelector(".readout");
    const cursor = document.createElement("div");
    cursor.className = "cursor";
    cursor.hidden = true;
    plot.append(cursor);
    let points = null;
    const load = () => {
      let x = 0;
      points = readings.split(";").map((text) => {
        const [dx, high, low, threshold] = text.split(",").map(Number);
        return { x: (x += dx), high: high / 100, low: low / 100, threshold: threshold / 100 };
      });
      plot.setAttribute("aria-valuemax", String(points.length - 1));
    };
    let at = 0;
    const read = (index) => {
      at = Math.min(Math.max(index, 0), points.length - 1);
      const point = points[at];
      const time = clock(Number(from) + (point.x / Number(width)) * (Number(to) - Number(from)));
      const range = point.low === point.high ? `${point.high}` : `${point.low} to ${point.high}`;
      readout.textContent = `${time}: score ${range}, threshold ${point.threshold}`;
      cursor.hidden = false;
      cursor.style.left = `${(100 * point.x) / Number(width)}%`;
      plot.setAttribute("aria-valuenow", String(at));
      plot.setAttribute("aria-valuetext", readout.textContent);
    };
    if (!readings) return;
    plot.tabIndex = 0;
    plot.setAttribute("role", "slider");
    plot.setAttribute("aria-label", `${plot.getAttribute("aria-label")}. Arrow keys read along the time of ${name}.`);
    plot.setAttribute("aria-valuemin", "0");
    plot.setAttribute("aria-valuenow", "0");
    plot.addEventListener("pointermove", (event) => {
      if (!points) load();
      const box = plot.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * Number(width);
      let nearest = 0;
      points.forEach((point, index) => {
        if (Math.abs(point.x - x) < Math.abs(points[nearest].x - x)) nearest = index;
      });
      read(nearest);
    });
    plot.addEventListener("pointerleave", () => {
      cursor.hidden = true;
      readout.textContent = "";
    });
    plot.addEventListener("keydown", (event) => {
      if (!points) load();
      const far = Math.ceil(points.length / 10);
      const moves = { ArrowLeft: -1, ArrowRight: 1, PageDown: -far, PageUp: far, Home: -points.length, End: points.length };
      if (!(event.key in moves)) return;
      event.preventDefault();
      read(at + moves[event.key]);
    });
  });
})();
