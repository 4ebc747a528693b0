// Requests to the API, with the token where there is one.

const KEY = "stocktide.token";
const PATIENCE_MS = 12_000;

/** What went wrong, from the API's problem details or from the network. */
export class Failure extends Error {
  constructor(message, { status = 0, part = null, retryAfter = 0 } = {}) {
    super(message);
    this.status = status;
    this.part = part;
    this.retryAfter = retryAfter;
  }

  /** Whether nobody answered. */
  get isSilence() {
    return this.status === 0;
  }

  /** Whether a token is wanted, or another one. */
  get isRefusal() {
    return this.status === 401 || this.status === 403;
  }
}

// Where storage is switched off it holds until the page is left.
let token = "";
try {
  token = sessionStorage.getItem(KEY) ?? "";
} catch {
  token = "";
}

/** Whether a token is being sent. */
export function hasToken() {
  return token !== "";
}

/** Sends this token from now on; none if it is empty. */
export function useToken(text) {
  token = text.trim();
  try {
    if (token) sessionStorage.setItem(KEY, token);
    else sessionStorage.removeItem(KEY);
  } catch {
    // see above
  }
}

/** Headers with the token. */
export function headers(more = {}) {
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

// The server's clock less ours, in milliseconds, known to a second: a computer whose clock is wrong must not see stale data.
let skew = 0;

/** The server's time. */
export function serverNow() {
  return Date.now() + skew;
}

/** Makes a failure out of an answer that is none. */
export async function failureOf(response) {
  const retryAfter = Number(response.headers.get("retry-after")) || 0;
  let told = {};
  try {
    told = await response.json();
  } catch {
    // not from us: a proxy's page, say
  }
  const message = told.detail || told.title || `the answer was ${response.status}`;
  return new Failure(message, { status: response.status, part: told.part ?? null, retryAfter });
}

/** Fetches JSON. Parameters that are empty are left out; `signal` gives the request up. */
export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== ""));
  const patience = AbortSignal.timeout(PATIENCE_MS);
  const until = signal ? AbortSignal.any([signal, patience]) : patience;
  let response;
  try {
    response = await fetch(query.size ? `${path}?${query}` : path, { headers: headers({ Accept: "application/json" }), signal: until });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure(patience.aborted ? "the API did not answer in time" : "the API does not answer");
  }
  if (!response.ok) throw await failureOf(response);
  const said = Date.parse(response.headers.get("date"));
  // Only answers that were not kept tell the time. The header has whole seconds.
  if (path === "/status" && Number.isFinite(said)) skew = Math.abs(said - Date.now()) < 2_000 ? 0 : said + 500 - Date.now();
  try {
    return await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure("the answer broke off");
  }
}
