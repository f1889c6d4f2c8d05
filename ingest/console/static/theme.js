"use strict";
// Before the page is drawn, so that it does not flash: the theme that was chosen, if one was.
try {
  const chosen = localStorage.getItem("postback-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage is refused: the system's theme it is.
}
