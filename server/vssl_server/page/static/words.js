/** What the numbers mean, in sentences. Pure. */

/** A number as people read it. */
export const count = (number) => number.toLocaleString("en");

/** A share of 1 as per cent: never 100 % or 0 % that isn't. */
export function percent(share) {
  if (share > 0.995 && share < 1) return "over 99 %";
  if (share > 0 && share < 0.005) return "under 1 %";
  return `${Math.round(share * 100)} %`;
}

/** How uncertain an image is, against the images that the model was calibrated on. */
export function uncertainty({ uncertainty: value, percentile }) {
  if (value === null || value === undefined) return "Its uncertainty is not known.";
  if (percentile === null || percentile === undefined) {
    return `Uncertainty ${value.toPrecision(3)}. The model has no calibration, so there is nothing to compare it with.`;
  }
  const share = percentile / 100;
  if (share === 1) return "More uncertain than every reference image.";
  if (share === 0) return "More certain than every reference image.";
  if (percentile >= 50) return `More uncertain than ${percent(share)} of the reference images.`;
  return `More certain than ${percent(1 - share)} of the reference images.`;
}

/** How like the reference an image is. */
export function familiarity({ familiarity: share }) {
  if (share === null || share === undefined) return null;
  if (share === 1 || share === 0) return `${share ? "More" : "Less"} familiar than every reference image.`;
  return `More familiar than ${percent(share)} of the reference images.`;
}

/** What the image itself says of the chance that its nearest neighbour has its label. */
export function confidence({ confidence: share }) {
  if (share === null || share === undefined) return null;
  return `By the image alone, its nearest neighbour has the same label with a chance of ${percent(share)}.`;
}

/** The kinds of degradation, as people name them. */
const KINDS = {
  crop: "cut off", blur: "blurred", noise: "noisy", occlusion: "partly covered", darkness: "too dark",
  jpeg: "compressed too much", low_resolution: "of too low a resolution", motion_blur: "blurred by motion",
  overexposure: "overexposed", underexposure: "underexposed", colour_cast: "tinted", saturation: "wrong in its colours",
  quarter_turn: "turned by a quarter", overlay: "overlaid with something", obstruction: "covered by something",
  two_at_once: "degraded in two ways",
};

/** The flags that are up, each with its name, and why. `resembles` names the kind of degradation where it is known. */
export function flags({ flags: up, resembles }) {
  const found = [];
  if (up?.degraded) {
    const why = `The picture itself is poor: more uncertain than 95 % of the reference.${likeness(resembles)}`;
    found.push({ name: "degraded", why });
  }
  if (up?.ood) {
    found.push({ name: "out of distribution", why: "It shows something that the model was not made for." });
  }
  if (up?.unfamiliar) {
    found.push({ name: "unfamiliar", why: "Hardly any reference image is as unlike the rest as this one." });
  }
  return found;
}

function likeness(resembles) {
  if (!resembles) return "";
  const kind = KINDS[resembles.kind] ?? `like ${resembles.kind.replaceAll("_", " ")}`;
  return ` It looks ${kind}; such a guess is right for ${percent(resembles.accuracy)} of test images.`;
}

/** Why there is no answer that one could trust. */
const REASONS = {
  ood: "It shows something that the model was not made for, so no label of this gallery can be trusted.",
  unfamiliar: "It is unlike the images that the model was calibrated on, so no label can be trusted.",
  uncertain: "It is more uncertain than 99 % of the images that this gallery was calibrated on. What follows is a guess.",
  unlikely: "The nearest label is more likely wrong than right.",
  uncalibrated:
    "This gallery was never calibrated, so nobody knows how often its labels are right. Label images, then calibrate it.",
  stale: "The gallery has changed too much since it was calibrated. Calibrate it again.",
  filtered: "A filter is on. It changes which labels are likely, so the calibration does not hold.",
  no_uncertainty: "How uncertain the query is, is not known, so the chance of being right is not either.",
};

/** What a gallery says of an image: a headline, and the sentences under it. */
export function answer({ label, p_correct: p, interval, prediction_set: set, action, reason }) {
  if (label === null) return { title: "No label", lines: ["No image of this gallery has a label yet."] };
  const lines = [];
  if (reason) lines.push(REASONS[reason] ?? reason);
  if (p !== null) {
    const range = interval ? ` (between ${percent(interval[0])} and ${percent(interval[1])})` : "";
    lines.push(`${reason ? "The nearest label would be" : "It is"} right with a chance of ${percent(p)}${range}.`);
  }
  if (set?.length > 1) lines.push(`Not ruled out: ${set.join(", ")}.`);
  if (set?.length === 0) lines.push("Every label of the gallery is ruled out.");
  if (action === "review") lines.push("Let somebody look before it is used.");
  return { title: action === "abstain" ? `No answer; nearest is ${label}` : label, lines };
}

/** A similarity: two digits tell nothing apart near 1. */
export const similarity = (cosine) => cosine.toFixed(3);

/** Milliseconds. */
export const ms = (time) => `${time < 10 ? time.toFixed(1) : Math.round(time)} ms`;

/** A value of a row as text. */
export function shown(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "number") return Number.isInteger(value) ? count(value) : value.toPrecision(4);
  if (typeof value === "object") return JSON.stringify(value, null, 1);
  return String(value);
}

/** A request as a line for a shell. The key is named, never shown; of a file that is sent as it is, the name. */
export function curl(method, url, body, keyed, file) {
  const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  const parts = [`curl -X ${method} ${quoted(url)}`];
  if (keyed) parts.push(`-H "Authorization: Bearer $VSSL_API_KEY"`);
  if (file) parts.push(`-H ${quoted(`Content-Type: ${file.type || "application/octet-stream"}`)}`, `--data-binary ${quoted(`@${file.name}`)}`);
  else if (body !== undefined) parts.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(body))}`);
  return parts.join(" \\\n  ");
}
