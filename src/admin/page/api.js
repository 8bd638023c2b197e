// Requests to the server.

/** The page's own address, with a slash at the end: the paths of all requests follow it. */
const BASE = location.pathname.replace(/\/*$/, '/');

/** The server has refused a request, or cannot be reached. */
export class RequestError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function get(path, parameters, signal) {
  return request('GET', path, parameters, { signal });
}

/** Pages of other sites cannot send the header. */
export function post(path, parameters) {
  return request('POST', path, parameters, { headers: { 'X-Chat-Admin': '1' } });
}

async function request(method, path, parameters = {}, options = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null);
  const query = new URLSearchParams(given);
  let response;
  try {
    response = await fetch(`${BASE}${path}${given.length ? `?${query}` : ''}`, { ...options, method, redirect: 'error', cache: 'no-store' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new RequestError(0, 'The server cannot be reached.');
  }
  const isJson = response.headers.get('content-type') === 'application/json';
  const body = isJson ? await response.json() : null;
  if (!response.ok) throw new RequestError(response.status, body?.message ?? `The server answers ${response.status}.`);
  if (!body) throw new RequestError(response.status, 'The answer is not from the admin view. Check that its path is passed on unchanged.');
  return body;
}
