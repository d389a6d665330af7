"use strict";
// Tables sort by a press on a column's name, copy as tab-separated text, and say where they go on beyond the screen;
// marks of charts tell what they are.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const value = (row, place) => row.cells[place].dataset.v ?? row.cells[place].textContent;
  table.tHead.rows[0].querySelectorAll("th").forEach((head, place) => {
    head.querySelector("button")?.addEventListener("click", () => {
      const turn = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", turn > 0 ? "ascending" : "descending");
      const number = (text) => (text === "" || text === "-" ? NaN : Number(text));
      const rows = [...body.rows];
      const areNumbers = rows.every((row) => ["", "-"].includes(value(row, place)) || !isNaN(number(value(row, place))));
      rows.sort((one, other) => {
        const [left, right] = [value(one, place), value(other, place)];
        if (!areNumbers) return turn * left.localeCompare(right, "en", {numeric: true});
        const [low, high] = [number(left), number(right)];
        return isNaN(low) || isNaN(high) ? isNaN(low) - isNaN(high) : turn * (low - high); // what is unknown comes last
      });
      body.append(...rows);
    });
  });
  table.closest(".table").querySelector(".copy")?.addEventListener("click", (event) => {
    const lines = [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim()).join("\t"));
    const button = event.currentTarget;
    const told = (word) => { button.textContent = word; setTimeout(() => (button.textContent = "Copy"), 1500); };
    const area = document.createElement("textarea");
    area.value = lines.join("\n");
    button.after(area);
    area.select();
    const isCopied = document.execCommand("copy"); // the clipboard's own interface is not there for files on a disk
    area.remove();
    button.focus();
    told(isCopied ? "Copied" : "Not copied");
  });
}
// A table wider than the screen says so; one in what is folded up is measured when it is opened.
const measured = new ResizeObserver((entries) => {
  for (const {target} of entries) {
    target.closest(".table").classList.toggle("wide", target.scrollWidth > target.clientWidth + 1);
  }
});
for (const each of document.querySelectorAll(".scroll")) measured.observe(each);
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
tip.setAttribute("aria-hidden", "true");
document.body.append(tip);
const show = (event) => {
  const tells = event.target.closest?.("[data-tells]")?.dataset.tells;
  tip.hidden = !tells;
  if (!tells) return;
  tip.textContent = tells;
  const {width, height} = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - width - 4))}px`;
  tip.style.top = `${event.clientY + height + 24 > innerHeight ? event.clientY - height - 12 : event.clientY + 16}px`;
};
addEventListener("pointermove", show);
addEventListener("pointerdown", show);
addEventListener("scroll", () => (tip.hidden = true), {passive: true});
