// The page: what it knows, and what happens at an event, a click or a key.
import { camera, keep } from "/camera.js";
import { classify, json, listen, onToken } from "/server.js";
import { $, NO_CLASS, answer, heat, health, list, queue, rows, smear, speak, t, title } from "/view.js";

const MOST = 100, LATEST = 12;
const state = { health: null, connected: false, shown: null, following: true, latest: [], queue: [], sessions: [], smear: null, overlay: false };

function show(entry, following) {
  state.shown = entry;
  state.following = following;
  state.overlay = false;
  draw();
}

function draw() {
  answer(state.shown, state.following);
  $("overlay").hidden = !(state.health && state.health.overlay && state.shown);
  list("latest", state.latest, state.shown);
  queue(state.queue, MOST, state.shown);
  smear(state.smear, state.health ? state.health.classes : [], state.sessions);
  if (state.health) health(state.health, state.connected);
}

// Several calls in a short time become one.
function soon(work) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(() => work().catch(complain), 150);
  };
}

const refresh = soon(async () => {
  const [waiting, known] = await Promise.all([json(`/api/queue?limit=${MOST}`), json("/api/sessions")]);
  state.queue = waiting.entries;
  state.sessions = known.sessions;
  const open = known.sessions.find((session) => session.ended === null);
  const wanted = open ? open.id : state.smear && state.smear.session.id;
  state.smear = wanted ? await json(`/api/sessions/${wanted}`) : null;
  draw();
});

async function load() {
  state.health = await json("/api/health");
  camera(state.health.camera === null ? null : await json("/camera"));
  state.latest = (await json(`/api/entries?limit=${LATEST}`)).entries;
  if (state.following) show(state.latest[0] || null, true);
  refresh();
}

function onEvent(name, value) {
  if (name === "camera") return camera(value);
  if (name === "entry") {
    state.latest = [value, ...state.latest.filter((entry) => entry.id !== value.id)].sort((a, b) => b.id - a.id).slice(0, LATEST);
    $("news").textContent = `${title(value)}: ${value.file.split(/[/\\]/).pop()}`;
    if (state.following) show(state.latest[0], true);
  } else if (name === "review") {
    state.latest = state.latest.map((entry) => (entry.id === value.id ? value : entry));
    if (state.shown && state.shown.id === value.id) state.shown = value;
  }
  draw();
  refresh();
}

function onState(connected) {
  state.connected = connected;
  if (connected) return load().catch(complain);
  camera(null);
  if (state.health) draw();
}

function complain(error) {
  $("message").textContent = error.message;
}

// The next, or the previous, entry to review.
function move(step) {
  if (state.queue.length === 0) return;
  const at = state.shown ? state.queue.findIndex((entry) => entry.id === state.shown.id) : -1;
  const next = at < 0 ? 0 : (at + step + state.queue.length) % state.queue.length;
  show(state.queue[next], false);
}

async function review(label) {
  const entry = state.shown;
  if (!entry || entry.status === "refused") return;
  const at = state.queue.findIndex((waiting) => waiting.id === entry.id);
  const reviewed = await json("/api/review", { id: entry.id, label });
  onEvent("review", reviewed);
  if (label === null || at < 0) return;
  state.queue = state.queue.filter((waiting) => waiting.id !== entry.id);
  if (state.queue.length) show(state.queue[Math.min(at, state.queue.length - 1)], false);
  else newest();
}

const confirm = () => (state.shown && state.shown.label !== null ? review(state.shown.label) : Promise.resolve());

function newest() {
  show(state.latest[0] || null, true);
}

async function give(files) {
  if (!files.length) return;
  const errors = [];
  for (const file of files) {
    $("message").textContent = t("working");
    try {
      const id = await classify(file);
      const entry = await json(`/api/entries/${id}`);
      show(entry, !state.latest.some((known) => known.id > id));
    } catch (error) {
      errors.push(error.message);
    }
  }
  $("message").textContent = errors.join(" · ");
}

async function keepFrame() {
  const entry = await keep();
  if (entry) show(entry, !state.latest.some((known) => known.id > entry.id));
}

function heatMap() {
  if ($("overlay").hidden) return;
  state.overlay = !state.overlay;
  heat(state.shown, state.overlay).catch(complain);
}

function download() {
  const { body, rest, total } = rows(state.smear.counts, state.health.classes);
  const cell = (value) => {
    const text = String(value).replace(/\p{Cc}/gu, " ");
    return `"${(/^[=+\-@＝＋－＠]/u.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  };
  const { name, begun, ended } = state.smear.session;
  const head = [[t("smear"), name], [t("begin"), begun], [t("end"), ended || ""], [], [t("class"), t("images"), t("share")]];
  const lines = [...head, ...[...body, ...rest, total].map(([label, count, share]) => [label, count, share === null ? "" : share.toFixed(4)])];
  const text = [...lines, [], [t("notice")]].map((line) => line.map(cell).join(",")).join("\r\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", text, "\r\n"], { type: "text/csv" }));
  link.download = `${name.replace(/[^\p{L}\p{N} _-]/gu, "_")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const KEYS = {
  Enter: confirm, Escape: newest, u: () => review(null), h: heatMap, k: keepFrame, "?": () => $("help").showModal(),
  ArrowRight: () => move(1), ArrowDown: () => move(1), ArrowLeft: () => move(-1), ArrowUp: () => move(-1),
};

function onKey(event) {
  const busy = event.target.closest("input, select, textarea, dialog") || document.querySelector("dialog[open]");
  if (busy || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if ((event.key === "Enter" || event.key === " ") && event.target.closest("button, a, label")) return;
  const classes = state.shown ? Object.keys(state.shown.probabilities) : [];
  const digit = event.key === "0" ? NO_CLASS : /^[1-9]$/.test(event.key) ? classes[Number(event.key) - 1] : undefined;
  const does = digit === undefined ? KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key] : () => review(digit);
  if (!does) return;
  event.preventDefault();
  Promise.resolve(does()).catch(complain);
}

function pick(event) {
  const button = event.target.closest("button[data-id]");
  if (!button) return;
  const id = Number(button.dataset.id);
  show([...state.queue, ...state.latest].find((entry) => entry.id === id), false);
  $("answer").focus(); // from here Enter confirms, and no longer picks
}

function on(id, event, does) {
  $(id).addEventListener(event, (given) => Promise.resolve(does(given)).catch(complain));
}

function wire() {
  document.addEventListener("keydown", onKey);
  document.addEventListener("dragover", (event) => (event.preventDefault(), document.body.classList.add("drag")));
  document.addEventListener("dragleave", () => document.body.classList.remove("drag"));
  document.addEventListener("drop", (event) => (event.preventDefault(), document.body.classList.remove("drag"), give([...event.dataTransfer.files])));
  document.addEventListener("paste", (event) => give([...event.clipboardData.files]));
  on("choose", "change", () => give([...$("choose").files]).then(() => ($("choose").value = "")));
  on("confirm", "click", confirm);
  on("classes", "click", (event) => event.target.closest("button") && review(event.target.closest("button").dataset.class));
  on("undo", "click", () => review(null));
  on("newest", "click", newest);
  on("overlay", "click", heatMap);
  on("keep", "click", keepFrame);
  on("queue", "click", pick);
  on("latest", "click", pick);
  on("begin", "click", begin);
  on("name", "keydown", (event) => (event.key === "Enter" ? begin() : undefined));
  on("end", "click", async () => (await json(`/api/sessions/${state.smear.session.id}/end`, {}), refresh()));
  on("print", "click", () => window.print());
  on("csv", "click", download);
  on("smears", "change", async () => $("smears").value && ((state.smear = await json(`/api/sessions/${$("smears").value}`)), draw()));
  on("language", "change", () => (localStorage.setItem("edge-all-language", $("language").value), speak($("language").value), draw(), camera()));
  on("help-open", "click", () => $("help").showModal());
  on("help-close", "click", () => $("help").close());
  on("ask", "cancel", (event) => event.preventDefault());
}

async function begin() {
  const name = $("name").value.trim();
  if (!name) return $("name").focus();
  await json("/api/sessions", { name });
  $("name").value = "";
  refresh();
}

let asking = null;

// All that wait for a token wait for the same answer.
function askForToken(wrong) {
  asking ||= new Promise((resolve) => {
    $("ask-message").textContent = wrong ? t("wrongToken") : "";
    $("token").value = "";
    $("ask").showModal();
    const done = () => {
      $("ask").close();
      asking = null;
      resolve($("token").value.trim());
    };
    $("token-give").onclick = done;
    $("token").onkeydown = (event) => event.key === "Enter" && done();
  });
  return asking;
}

speak(localStorage.getItem("edge-all-language") || navigator.language.slice(0, 2));
onToken(askForToken);
wire();
draw();
listen(onEvent, onState);
setInterval(() => state.connected && json("/api/health").then((found) => ((state.health = found), health(found, state.connected))).catch(() => undefined), 10000);
