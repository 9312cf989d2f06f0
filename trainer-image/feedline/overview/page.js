"use strict";
// A training is one line in each picture and one row of the table: what is pointed at is lit everywhere.
const all = (row) => document.querySelectorAll(`[data-row="${row}"]`);
for (const event of ["pointerover", "pointerout"])
  document.addEventListener(event, ({ target }) => {
    const found = target.closest("[data-row]");
    if (found) for (const each of all(found.dataset.row)) each.classList.toggle("lit", event === "pointerover");
  });
// Numbers by their value, the rest by its text; once more turns the order round.
document.querySelectorAll(".all button").forEach((button, column) => {
  let turn = 1;
  button.addEventListener("click", () => {
    const body = document.querySelector(".all tbody");
    const key = (row) => row.children[column].dataset.value ?? row.children[column].textContent;
    const compare = (one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === "" || b === "") return (a === "") - (b === "");
      const difference = Number(a) - Number(b);
      return turn * (Number.isNaN(difference) ? a.localeCompare(b, undefined, { numeric: true }) : difference);
    };
    body.append(...[...body.children].sort(compare));
    for (const heading of document.querySelectorAll(".all th")) heading.removeAttribute("aria-sort");
    button.parentElement.setAttribute("aria-sort", turn > 0 ? "ascending" : "descending");
    turn = -turn;
  });
});
