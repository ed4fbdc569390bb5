// Speaks to the server of the review. Exports: api, imageUrl, ReviewError.

const BASE = new URL("../", import.meta.url); // behind the secret in the address

/** An answer that is no success; `rows` are those that it is about, as they are now. */
export class ReviewError extends Error {
  constructor(status, { error, rows = [], count = 0 }) {
    super(error.message);
    Object.assign(this, { status, type: error.type, rows, count });
  }
}

const MODEL = /\/(proposal|explanation)$/; // may have to wait until the model is loaded

function goneError() {
  const message = "The review has ended, or its process is gone. Start the command again: "
    + "every step is kept.";
  return new ReviewError(0, { error: { type: "unreachable", message } });
}

async function request(path, method = "GET", body = undefined) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(new URL(path, BASE), { method, headers, body: JSON.stringify(body) });
  } catch {
    throw goneError();
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  if (response.status === 503 && !MODEL.test(path)) throw goneError(); // it is about to end
  const fallback = { type: "unknown", message: `The server answered ${response.status}.` };
  throw new ReviewError(response.status, { error: fallback, ...answer });
}

export const api = {
  readState: () => request("state"),
  openView: (filter, row, resume) => {
    const query = new URLSearchParams();
    if (row !== null) query.set("row", row);
    if (resume) query.set("resume", "true");
    return request(`views?${query}`, "POST", filter);
  },
  readView: (view, start, count) => request(`views/${view}?start=${start}&count=${count}`),
  findInView: (view, row) => request(`views/${view}/index?row=${row}`),
  readRow: (row) => request(`rows/${row}`),
  step: (row, action, body) => request(`rows/${row}/${action}`, "POST", body),
  propose: (row) => request(`rows/${row}/proposal`, "POST"),
  explain: (row, text) => request(`rows/${row}/explanation`, "POST", { text }),
  previewReplacement: (body) => request("replacements/preview", "POST", body),
  replace: (body) => request("replacements", "POST", body),
  undo: () => request("undo", "POST"),
  setPlace: (place) => request("place", "PUT", place),
  finish: () => request("finish", "POST"),
};

/** Return the address of the image of a row: "small" or "large". */
export function imageUrl(row, size) {
  return new URL(`rows/${row}/image?size=${size}`, BASE).href;
}
