/* The public HTTP API, called with fetch. Every refusal and every lost connection becomes an ApiError. */

export class ApiError extends Error {
  /** `status` 0: the server was not reached. `field`: the request's field at fault, or null. */
  constructor(status, code, message, field = null, retryAfter = 0) {
    super(message);
    Object.assign(this, { status, code, field, retryAfter });
  }

  get lost() {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

let onUnauthorized = () => {};

/** Tell whoever shows the sign-in when the server wants a token. */
export function whenUnauthorized(callback) {
  onUnauthorized = callback;
}

async function request(method, path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  let body = options.body;
  if (options.json !== undefined) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(options.json);
  }
  let response;
  try {
    response = await fetch(path, { method, headers, body, signal: options.signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The server cannot be reached.");
  }
  if (response.status === 204) return null;
  const data = await response.json().catch(() => null);
  if (response.ok) return data;
  const told = (data && data.error) || {};
  if (response.status === 401 && path !== "/api/session") onUnauthorized();
  const retry = Number(response.headers.get("Retry-After")) || 0;
  const message = told.message || `The server answered ${response.status}.`;
  throw new ApiError(response.status, told.code || "error", message, told.field || null, retry);
}

const job = (id) => `/api/jobs/${encodeURIComponent(id)}`;

export const api = {
  info: () => request("GET", "/api/info"),
  presets: () => request("GET", "/api/presets"),
  models: () => request("GET", "/api/models"),
  schema: () => request("GET", "/api/schema"),
  signIn: (token) => request("POST", "/api/session", { json: { token } }),
  signOut: () => request("DELETE", "/api/session"),
  upload: (file) =>
    request("POST", "/api/pictures", { body: file, headers: { "Content-Type": file.type || "application/octet-stream" } }),
  /** `asked`: picture, last_picture (an id or null), settings. */
  plan: (asked, signal) => request("POST", "/api/plan", { json: asked, signal }),
  submit: (entry) => request("POST", "/api/jobs", { json: entry, headers: { "Idempotency-Key": entry.job_id } }),
  /** A list in `query` names its parameter once for each of its values. */
  jobs: (query) => {
    const pairs = Object.entries(query).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
    return request("GET", `/api/jobs?${new URLSearchParams(pairs)}`);
  },
  record: (id) => request("GET", `${job(id)}/record`),
  cancel: (id) => request("POST", `${job(id)}/cancel`),
  retry: (id) => request("POST", `${job(id)}/retry`),
  again: (id) => request("POST", `${job(id)}/again`, { json: {} }),
  rate: (id, rating) => request("POST", `${job(id)}/rating`, { json: { rating } }),
  forget: (id) => request("DELETE", job(id)),
};

export const pictureUrl = (sha, side = 512) => `/api/pictures/${encodeURIComponent(sha)}?side=${side}`;
