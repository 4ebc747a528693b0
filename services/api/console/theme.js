// Runs before the page is drawn, so that it does not flash in the wrong colours.
"use strict";
(() => {
  const themes = ["auto", "light", "dark"];
  const names = { auto: "Auto", light: "Light", dark: "Dark" };
  const read = () => {
    try {
      const kept = localStorage.getItem("stocktide.theme");
      return themes.includes(kept) ? kept : "auto";
    } catch {
      return "auto"; // storage is switched off
    }
  };
  let theme = read();
  const show = () => {
    document.documentElement.dataset.theme = theme;
    const name = document.getElementById("theme-name");
    if (name) name.textContent = names[theme];
  };
  show();
  document.addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme").addEventListener("click", () => {
      theme = themes[(themes.indexOf(theme) + 1) % themes.length];
      show();
      try {
        localStorage.setItem("stocktide.theme", theme);
      } catch {
        // it holds until the page is left
      }
    });
  });
})();
