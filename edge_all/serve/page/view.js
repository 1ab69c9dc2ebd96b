// What the page shows: text from the server is only ever put in as text.
import { TEXTS } from "/texts.js";
import { ask } from "/server.js";

export const $ = (id) => document.getElementById(id);
export const NO_CLASS = ""; // a review: the image shows none of the classes
let texts = TEXTS.en, language = "en", picture = 0;

export function t(key, ...values) {
  return values.reduce((text, value) => text.replace("{}", () => value), texts[key]);
}

export function speak(chosen) {
  language = chosen in TEXTS ? chosen : "en";
  texts = TEXTS[language];
  document.documentElement.lang = language;
  $("language").value = language;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", t(element.dataset.label));
  $("keys").replaceChildren(...texts.keys.flatMap(([key, does]) => [make("dt", key), make("dd", does)]));
}

export function make(tag, text = "", properties = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  return Object.assign(element, properties);
}

export const percent = (value) => value.toLocaleString(language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const time = (entry) => new Date(entry.time).toLocaleTimeString(language, { hour12: false });
export const base = (file) => file.split(/[/\\]/).pop();
export const big = (word) => word[0].toUpperCase() + word.slice(1);

// The label as people read it: "?" behind one that is undecided.
export function title(entry) {
  if (entry.status === "ok") return entry.label;
  return entry.status === "refer" ? `${entry.label}?` : t(entry.status);
}

// Why a picture is unfamiliar, in words; nothing where nobody knows.
export const why = (entry) => (entry.reason ? texts.reasons[entry.reason] || entry.reason : "");

// The label as large as it is put, with its probability.
export function answered(element, entry) {
  element.textContent = entry ? title(entry) : "";
  if (entry && entry.label !== null) element.append(" ", make("small", percent(entry.probabilities[entry.label])));
}

export function answer(entry, following) {
  const section = $("answer");
  section.dataset.status = entry ? entry.status : "none";
  $("answer-title").textContent = !entry || following ? t("newest") : t("chosen", entry.id);
  $("newest").hidden = following;
  for (const id of ["evidence", "status"]) $(id).hidden = !entry;
  answered($("label"), entry);
  if (!entry) $("label").textContent = t("nothing");
  $("advice").textContent = entry ? entry.error || t(`advice${big(entry.status)}`) : t("nothingAdvice");
  $("review").hidden = !entry || entry.status === "refused";
  if (!entry) return;
  $("status").textContent = t(`status${big(entry.status)}`) + (why(entry) && `: ${why(entry)}`);
  bars(entry);
  $("trace").textContent = t("trace", time(entry), entry.bundle, entry.bundle_digest.slice(0, 8), `${entry.target} ${entry.precision}`, entry.ms.toFixed(1));
  review(entry);
  image(entry);
}

function bars(entry) {
  const rows = Object.entries(entry.probabilities).map(([name, value]) => {
    const row = make("tr"), track = make("td", "", { className: "track" }), bar = make("i");
    bar.style.width = `${100 * value}%`;
    track.append(make("div"));
    track.firstChild.append(bar);
    row.className = name === entry.label ? "top" : "";
    row.append(make("th", name, { scope: "row" }), track, make("td", percent(value), { className: "number" }));
    return row;
  });
  $("bars").tBodies[0].replaceChildren(...rows);
  $("bars").caption.textContent = t(entry.status === "unfamiliar" ? "probabilitiesMean" : "probabilities");
  $("bars").hidden = rows.length === 0;
}

function review(entry) {
  $("reviewed").textContent = entry.review === null ? t("notReviewed") : t("reviewed", entry.review || t("noClass"));
  $("confirm").disabled = entry.label === null;
  $("confirm").textContent = entry.label === null ? t("nothingToConfirm") : t("confirm", entry.label);
  $("undo").hidden = entry.review === null;
  const buttons = [...Object.keys(entry.probabilities), NO_CLASS].map((name, i) => {
    const text = name === NO_CLASS ? `0 ${t("noneOfThese")}` : i < 9 ? `${i + 1} ${name}` : name;
    const button = make("button", text, { type: "button" });
    button.setAttribute("aria-pressed", String(entry.review === name));
    button.dataset.class = name;
    return button;
  });
  $("classes").replaceChildren(...buttons);
}

async function image(entry, overlay = false) {
  const key = `${entry.id} ${overlay}`, element = $("image");
  $("file").textContent = base(entry.file);
  if (element.dataset.key === key) return;
  element.dataset.key = key;
  const mine = ++picture;
  const found = entry.status === "refused" ? null : await ask(`/api/entries/${entry.id}/${overlay ? "overlay" : "image"}`);
  const blob = found && found.ok ? await found.blob() : null;
  if (mine !== picture) return;
  URL.revokeObjectURL(element.src);
  $("overlay").setAttribute("aria-pressed", String(overlay));
  element.hidden = !blob;
  element.alt = t("imageAlt", base(entry.file));
  if (blob) element.src = URL.createObjectURL(blob);
  else element.removeAttribute("src");
  $("no-image").hidden = Boolean(blob);
  $("no-image").textContent = t("noImage");
}

export const heat = (entry, overlay) => image(entry, overlay);

export function list(id, entries, shown) {
  const rows = entries.map((entry) => {
    const button = make("button", "", { type: "button" }), row = make("li");
    button.dataset.id = entry.id;
    button.dataset.status = entry.status;
    if (shown && shown.id === entry.id) button.setAttribute("aria-current", "true");
    const said = entry.review === null ? "" : ` ✓ ${entry.review === entry.label ? "" : entry.review || t("noClass")}`;
    button.append(make("b", title(entry) + said), make("span", entry.label === null ? "" : percent(entry.probabilities[entry.label])));
    button.append(make("small", [time(entry), why(entry), base(entry.file)].filter(Boolean).join(" · ")));
    row.append(button);
    return row;
  });
  const focused = document.activeElement && $(id).contains(document.activeElement) ? document.activeElement.dataset.id : null;
  $(id).replaceChildren(...rows);
  if (focused) $(id).querySelector(`[data-id="${focused}"]`)?.focus();
}

export function queue(entries, most, shown) {
  list("queue", entries.slice(0, 5), shown);
  $("queue-title").textContent = t(entries.length < most ? "queue" : "queueMany", entries.length);
  $("queue-empty").hidden = entries.length > 0;
}

// What is counted beside the classes, and its text.
const WITHOUT_CLASS = { refer: "refer", unfamiliar: "unfamiliar", refused: "refused", "no class": "noClass" };

// Rows of a smear's counts: [name, images, share of those with a class, or null].
export function rows(counts, classes) {
  const named = [...classes, ...Object.keys(counts).filter((name) => !classes.includes(name) && !(name in WITHOUT_CLASS))];
  const total = named.reduce((sum, name) => sum + (counts[name] || 0), 0);
  const share = (count) => (total ? count / total : 0);
  return {
    body: named.map((name) => [name, counts[name] || 0, share(counts[name] || 0)]),
    rest: Object.entries(WITHOUT_CLASS).map(([name, key]) => [t(key), counts[name] || 0, null]),
    total: [t("total"), total, share(total)],
  };
}

export function smear(found, classes, sessions) {
  const open = found && found.session.ended === null;
  $("smear-name").textContent = !found ? t("noSmear") : t(open ? "openSmear" : "closedSmear", found.session.name);
  for (const id of ["counts", "print", "csv"]) $(id).hidden = !found;
  $("end").hidden = !open;
  $("smear-new").hidden = Boolean(open);
  $("earlier").hidden = sessions.length === 0;
  $("smears").replaceChildren(make("option", t("chooseSmear"), { value: "" }), ...sessions.map((s) => make("option", s.name, { value: s.id, selected: found && s.id === found.session.id })));
  if (!found) return;
  const { body, rest, total } = rows(found.counts, classes);
  $("counts").tBodies[0].replaceChildren(...[...body, ...rest].map(row));
  $("counts").tFoot.replaceChildren(row(total));
}

function row([name, count, share]) {
  const element = make("tr");
  element.append(make("th", name, { scope: "row" }), make("td", String(count), { className: "number" }), make("td", share === null ? "" : percent(share), { className: "number" }));
  return element;
}

export function health(found, connected) {
  const gigabytes = found.disk_free_bytes === null ? null : found.disk_free_bytes / 1e9;
  const full = found.disk_low, failed = found.probe !== null && !found.probe.passed;
  const drifting = found.drift.filter((state) => state.over);
  const parts = [
    ...drifting.map((state) => t("drift", state.run, texts.changes[state.change] || state.change) + (state.source && ` (${state.source})`)),
    t(connected ? "live" : "lost"), ...(found.problem ? [t("notReplaced")] : []), `${found.name} (${found.digest.slice(0, 8)})`, `${found.precision}, ${found.engine}`,
    found.probe === null ? t("noProbe") : failed ? t("probeFailed") : t("probe", found.probe.same_label, found.probe.images),
    ...(gigabytes === null ? [] : [t(full ? "nearlyFull" : "free", gigabytes.toFixed(full ? 1 : 0))]), t("waiting", found.waiting),
    ...found.watched,
  ];
  const text = parts.join(" · ");
  if ($("health").textContent !== text) $("health").textContent = text;
  $("health").classList.toggle("bad", full || failed || !connected || found.problem !== "" || drifting.length > 0);
}
