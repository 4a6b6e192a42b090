// Follows the server: when the state is another one than that of the page, the page is asked for again, and what has `data-live` is replaced.
// And keys for people who leave the mouse alone. Without this script every page works; it only has to be reloaded by hand.
"use strict";

const following = document.getElementById("following");
let stamp = document.body.dataset.stamp;
let wanted = stamp;
let asking = false;

function say(text, state) {
  following.textContent = text;
  following.className = state;
}

function focused(region) {
  const at = document.activeElement;
  return region.contains(at) && at.getAttribute("href") ? at.getAttribute("href") : null;
}

function replace(page) {
  for (const region of document.querySelectorAll("[data-live]")) {
    const next = page.getElementById(region.id);
    if (!next || next.innerHTML === region.innerHTML) continue;
    const href = focused(region);
    region.replaceChildren(...next.childNodes);
    if (href) [...region.querySelectorAll("a[href]")].find((link) => link.getAttribute("href") === href)?.focus();
  }
}

async function refresh() {
  if (asking || wanted === stamp || document.hidden) return;
  asking = true;
  try {
    const response = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (response.ok || response.status === 404) {
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      replace(page);
      stamp = page.body.dataset.stamp;
    }
  } catch {
    // the stream of events notices as well, and connects again
  }
  asking = false;
  if (wanted !== stamp) setTimeout(refresh, 1000);
}

// A browser has six connections to a server for all of its tabs, and a stream keeps one: so only a page that is seen follows.
let events = null;

function follow() {
  if (events || document.hidden) return;
  events = new EventSource("/events");
  events.addEventListener("state", (event) => {
    say("live", "is-ok");
    wanted = event.data;
    refresh();
  });
  events.addEventListener("error", () => {
    if (events?.readyState === EventSource.CLOSED) {
      events = null;
      say("not live: too many pages are open", "is-warning");
      setTimeout(follow, 15000);
    } else {
      say("connecting", "is-note");
    }
  });
}

// Times grow older by themselves.
function ago(seconds) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= 2 * size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.floor(seconds))} s`;
}

function tick() {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const text = ago((Date.now() - Date.parse(time.dateTime)) / 1000);
    if (time.textContent !== text) time.textContent = text;
  }
}

// Keys.
function step(by) {
  const rows = [...document.querySelectorAll("main tbody tr, main li.problem")].filter((row) => row.querySelector("a[href]"));
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const row = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))];
  row?.querySelector("a[href]").focus();
}

const keys = {
  "/": () => document.querySelector("main input[type=search]")?.select(),
  j: () => step(1),
  k: () => step(-1),
  n: () => document.querySelector("a[rel=next]")?.click(),
  p: () => document.querySelector("a[rel=prev]")?.click(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select, textarea");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const section = "12345".indexOf(event.key);
  if (event.key.length === 1 && section >= 0) {
    document.querySelectorAll("header nav a")[section].click();
  } else if (Object.hasOwn(keys, event.key)) {
    event.preventDefault();
    keys[event.key]();
  }
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    follow();
    refresh();
  } else if (events) {
    events.close();
    events = null;
    say("not live while it is hidden", "is-note");
  }
});
setInterval(tick, 1000);
follow();
