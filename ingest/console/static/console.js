"use strict";
// What makes the pages pleasanter. Each works without it, but for copying.

const all = (selector, within = document) => within.querySelectorAll(selector);

function say(text) {
  const place = document.querySelector("[data-said]");
  if (place) place.textContent = text;
}

// The theme: light or dark, in place of the system's.
const toggle = document.querySelector("[data-theme-toggle]");
const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const nameToggle = () => { toggle.textContent = isDark() ? "Light theme" : "Dark theme"; };
toggle.hidden = false;
nameToggle();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameToggle);
toggle.addEventListener("click", () => {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try { localStorage.setItem("postback-theme", theme); } catch { /* it holds for this page */ }
  nameToggle();
});

// Filters that act as soon as something is chosen.
for (const form of all("[data-autosubmit]")) {
  form.addEventListener("change", () => form.requestSubmit());
}

// Copy buttons.
for (const button of all("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.value);
    } catch {  // only over https and on this machine itself
      source.select();
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    say("Copied to the clipboard");
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

async function fetchPage(address, body) {
  const response = await fetch(address, { method: body ? "POST" : "GET", body, credentials: "same-origin" });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  return { response, page };
}

const bodyOf = (form, submitter) => {
  const data = new FormData(form);
  if (submitter?.name) data.append(submitter.name, submitter.value);
  return new URLSearchParams(data);
};

// A form whose answer takes the place of a part of the page.
for (const form of all("[data-replace]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { page } = await fetchPage(form.action, bodyOf(form, event.submitter));
    const place = document.getElementById(form.dataset.replace);
    const found = page.getElementById(form.dataset.replace) ?? page.querySelector("main");
    place.replaceChildren(...document.importNode(found, true).childNodes);
    place.focus();
  });
}

// The slide-out: the page of a goal's form, beside the campaign's.
const dialog = document.querySelector("[data-dialog]");
let opener = null;

function showPanel(page, address) {
  const panel = page.getElementById("panel") ?? page.querySelector("main");
  dialog.replaceChildren(...document.importNode(panel, true).childNodes);
  const title = dialog.querySelector("h1");
  if (title) dialog.setAttribute("aria-label", title.textContent);
  for (const button of all("[data-close]", dialog)) button.hidden = false;
  for (const button of all("[data-close], [data-close-link]", dialog)) {
    button.addEventListener("click", (event) => { event.preventDefault(); dialog.close(); });
  }
  const form = dialog.querySelector("[data-goal-form]");
  if (form) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send(form, event.submitter, address);
    });
    watchMargins(form, address);
  }
  if (!dialog.open) dialog.showModal();
  const focus = dialog.querySelector("[data-focus]") ?? title;
  if (focus) {
    focus.focus();
    focus.scrollIntoView({ block: "nearest" });
  }
}

async function send(form, submitter, address) {
  const top = dialog.scrollTop;
  const { response, page } = await fetchPage(address, bodyOf(form, submitter));
  if (response.redirected) {
    location.assign(response.url);
    if (new URL(response.url).pathname === location.pathname) location.reload();
    return;
  }
  showPanel(page, address);
  if (submitter?.value?.startsWith("add-") || submitter?.value?.startsWith("remove-")) {
    dialog.scrollTop = top;
    dialog.querySelector("[data-focus]")?.scrollIntoView({ block: "nearest" });
  }
}

// Margins beside the rates as they are entered. They are worked out where all amounts are: by the program.
function watchMargins(form, address) {
  let turn = 0;
  form.querySelector("[data-check]").hidden = true;
  form.addEventListener("change", async (event) => {
    if (!event.target.closest("[data-rates]") && event.target.name !== "model") return;
    const mine = ++turn;
    const body = bodyOf(form);
    body.append("do", "check");
    const { page } = await fetchPage(address, body);
    if (mine !== turn) return;
    for (const output of all("[data-margin]", form)) {
      const fresh = page.getElementById(output.id);
      if (fresh) output.textContent = fresh.textContent;
    }
  });
}

if (dialog) {
  for (const link of all("[data-slide-out]")) {
    link.addEventListener("click", async (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      opener = link;
      const { page } = await fetchPage(link.href);
      showPanel(page, link.href);
    });
  }
  dialog.addEventListener("close", () => { opener?.focus(); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
} else {
  const form = document.querySelector("[data-goal-form]");
  if (form) watchMargins(form, form.action);
  document.querySelector("[data-focus]:not([autofocus])")?.focus();
}
