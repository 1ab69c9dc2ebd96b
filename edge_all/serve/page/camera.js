// The camera on the page: its pictures, one after the other, and the answer to its last settled frame.
import { ask, json } from "/server.js";
import { $, answered, base, big, t, why } from "/view.js";

let known = null, running = false;
const gives = () => known !== null && !["opening", "lost"].includes(known.state);

// What the server says of the camera; null hides it, and nothing draws again what was said last.
export function camera(found = known) {
  known = found;
  $("camera").hidden = !found;
  if (!found) return;
  const answer = gives() ? found.answer : null, lost = found.state === "lost";
  $("camera").dataset.status = answer && found.state === "settled" ? answer.status : "none";
  $("keep").disabled = !gives();
  $("camera-state").textContent = lost ? "" : t(found.state);
  $("camera-lost").textContent = lost ? t("cameraLost") : "";
  $("camera-advice").textContent = found.error || advice(found.state, answer);
  answered($("camera-label"), answer);
  $("frame").alt = t("frameAlt", found.name);
  if (!gives()) picture(null);
  follow();
}

function advice(state, answer) {
  if (!answer) return t(`${state}Advice`);
  if (state !== "settled") return t("cameraLast");
  const reason = why(answer);
  return [...(reason ? [`${big(reason)}.`] : []), t(`advice${big(answer.status)}`), t("settledAdvice")].join(" ");
}

// Pictures as fast as they come, while somebody can see them.
async function follow() {
  if (running) return;
  running = true;
  try {
    while (gives() && !document.hidden) {
      const answer = await ask("/camera/frame.jpg");
      if (answer.status === 200) await picture(await answer.blob());
      else if (answer.status !== 204) throw new Error(String(answer.status));
    }
  } catch {
    setTimeout(follow, 2000);
  } finally {
    running = false;
  }
}

async function picture(blob) {
  const element = $("frame"), before = element.src;
  element.hidden = !(blob && gives());
  if (element.hidden) element.removeAttribute("src");
  else {
    element.src = URL.createObjectURL(blob);
    await element.decode().catch(() => undefined);
  }
  if (before) URL.revokeObjectURL(before);
}

// Keeps the newest frame; its entry in the journal, or null.
export async function keep() {
  if (!gives()) return null;
  try {
    const entry = await json("/camera/keep", {});
    $("camera-message").textContent = t("kept", base(entry.file));
    return entry;
  } catch (error) {
    $("camera-message").textContent = error.message;
    return null;
  }
}

document.addEventListener("visibilitychange", follow);
