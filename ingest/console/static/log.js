"use strict";
// The live log: rows as they come, newest first. A row that is there already is known by its id.

(() => {
  const live = document.querySelector("[data-events]");
  const rows = document.querySelector("[data-rows]");
  const status = document.querySelector("[data-status]");
  const pause = document.querySelector("[data-pause]");
  const empty = document.querySelector("[data-empty]");
  const MAX_ROWS = 300;
  const SAY_EVERY_MS = 3000;
  const address = new URL(live.dataset.events, location.href);
  let source = null;
  let isPaused = false;
  let held = [];
  let news = 0;
  let isCut = false;
  let retryMs = 1000;

  const tell = (text) => { if (status.textContent !== text) status.textContent = text; };

  function add(html) {
    const template = document.createElement("template");
    template.innerHTML = html;  // made by the program, everything in it escaped
    const row = template.content.firstElementChild;
    if (!row || document.getElementById(row.id)) return;
    row.classList.add("new");
    rows.prepend(row);
    while (rows.children.length > MAX_ROWS) rows.lastElementChild.remove();
    empty.hidden = true;
    news += 1;
  }

  function connect() {
    source = new EventSource(address);
    source.addEventListener("open", () => { retryMs = 1000; tell(isPaused ? "Paused" : "Live"); });
    source.addEventListener("message", (event) => {
      address.searchParams.set("after", event.lastEventId);
      if (!isPaused) add(event.data);
      else if (held.push(event.data) > MAX_ROWS) { held.shift(); isCut = true; }
    });
    source.addEventListener("cut", () => { isCut = true; });
    source.addEventListener("error", () => {
      tell("The connection is lost; trying again");
      if (source.readyState !== EventSource.CLOSED) return;  // it comes again by itself, from its last event on
      source.close();
      setTimeout(connect, retryMs);
      retryMs = Math.min(retryMs * 2, 30000);
    });
  }

  setInterval(() => {
    if (isPaused) { tell(held.length ? `Paused; ${held.length} wait` : "Paused"); return; }
    if (source.readyState !== EventSource.OPEN) return;
    if (isCut) tell("More came than can be shown, some were left out: a filter helps");
    else if (news) tell(news === 1 ? "Live: one more" : `Live: ${news} more`);
    else if (status.textContent.startsWith("Live:")) tell("Live");
    news = 0;
    isCut = false;
  }, SAY_EVERY_MS);

  pause.hidden = false;
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", String(isPaused));
    pause.textContent = isPaused ? "Go on" : "Pause";
    if (!isPaused) { held.forEach(add); held = []; }
    tell(isPaused ? "Paused" : "Live");
  });
  connect();
})();
