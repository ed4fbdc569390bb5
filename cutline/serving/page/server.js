// Speaks to the server's API. Exports: Server, ServerError, isTemporary.

import { readEvents } from "./events.js";

const TOKEN_KEY = "cutline-token";
const BASE = new URL("../", import.meta.url); // works behind a reverse proxy's prefix, too

/** An answer that is no success, in the server's words. */
export class ServerError extends Error {
  constructor(status, { type, message, param = null }, retryAfter = 0) {
    super(message);
    Object.assign(this, { status, type, param, retryAfter });
  }
}

// Of an event, which has no status.
const TEMPORARY_TYPES = new Set(["queue_full", "not_ready", "cancelled"]);

/** Return whether the same request may succeed a little later. */
export function isTemporary(error) {
  return [0, 429, 503].includes(error.status) || TEMPORARY_TYPES.has(error.type);
}

export class Server {
  #askToken;
  #asking = null; // requests that fail together ask once

  /** askToken(wasWrong) returns a promise of a token. */
  constructor(askToken) {
    this.#askToken = askToken;
  }

  /** Return what GET /v1/info says: the model, its defaults and the limits. */
  async loadInfo() {
    return (await this.#request("v1/info")).json();
  }

  /** Yield the events of an image's caption, without the last one. */
  async *caption(file, settings, signal) {
    const body = makeForm({ ...settings, stream: true }, "images", file);
    const response = await this.#request("v1/captions", { method: "POST", body, signal });
    for await (const { type, data } of this.#read(response, signal)) {
      if (type === "error") throw new ServerError(undefined, data.error);
      if (type === "done") return;
      yield { type, ...data };
    }
    throw new ServerError(0, { type: "cut_off", message: "The connection to the server broke." });
  }

  /** Return the heat-map of each word of a caption. */
  async explain(file, fields, signal) {
    const body = makeForm(fields, "image", file);
    return (await this.#request("v1/explanations", { method: "POST", body, signal })).json();
  }

  async *#read(response, signal) {
    try {
      yield* readEvents(response.body);
    } catch (error) {
      throw signal?.aborted ? error : unreachable();
    }
  }

  async #request(path, options = {}) {
    for (let wasWrong = false; ; wasWrong = true) {
      const token = sessionStorage.getItem(TOKEN_KEY);
      const headers = token ? { Authorization: `Bearer ${token}` } : {};
      let response;
      try {
        response = await fetch(new URL(path, BASE), { ...options, headers });
      } catch (error) {
        throw options.signal?.aborted ? error : unreachable();
      }
      if (response.ok) return response;
      if (response.status !== 401) throw await readError(response);
      await this.#replaceToken(token, wasWrong || token !== null);
    }
  }

  /** Ask for a token, unless another request has got one meanwhile. */
  async #replaceToken(refused, wasWrong) {
    if (sessionStorage.getItem(TOKEN_KEY) !== refused) return;
    this.#asking ??= this.#askToken(wasWrong).finally(() => { this.#asking = null; });
    sessionStorage.setItem(TOKEN_KEY, await this.#asking);
  }
}

function unreachable() {
  return new ServerError(0, { type: "unreachable", message: "The server cannot be reached." });
}

async function readError(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  // A proxy in between answers in its own way.
  const fallback = { type: "unknown", message: `The server answered ${response.status}.` };
  const body = await response.json().catch(() => ({}));
  return new ServerError(response.status, body.error ?? fallback, retryAfter);
}

function makeForm(fields, name, file) {
  const form = new FormData();
  for (const [field, value] of Object.entries(fields)) form.append(field, String(value));
  form.append(name, file, file.name);
  return form;
}
