"use strict";
// What a point is, beside the pointer; without this script the browser shows its title.
const tip = document.body.appendChild(document.createElement("div"));
tip.id = "tip";
tip.hidden = true;
const show = (text, x, y) => {
  tip.textContent = text.replaceAll("; ", "\n");
  tip.style.whiteSpace = "pre-line";
  tip.hidden = false;
  tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 4)) + "px";
  tip.style.top = (y + tip.offsetHeight + 24 > innerHeight ? y - tip.offsetHeight - 14 : y + 14) + "px";
};
const hide = () => { tip.hidden = true; };
for (const point of document.querySelectorAll(".point")) {
  const text = point.getAttribute("aria-label");
  point.querySelector("title").remove();
  point.addEventListener("mousemove", (event) => show(text, event.clientX, event.clientY));
  point.addEventListener("mouseleave", hide);
  point.addEventListener("focus", () => {
    const box = point.getBoundingClientRect();
    show(text, box.right, box.bottom);
  });
  point.addEventListener("blur", hide);
}
addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
addEventListener("scroll", hide);
// A link to a line of a table that is folded away opens it.
const open = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", open);
open();
// Examples with a word.
for (const field of document.querySelectorAll(".find")) {
  field.hidden = false;
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    for (const one of field.parentElement.querySelectorAll(".example")) {
      one.hidden = !one.textContent.toLowerCase().includes(wanted);
    }
  });
}
