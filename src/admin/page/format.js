// Numbers and times.

const whole = new Intl.NumberFormat('en');
const UNITS = [['d', 86_400], ['h', 3_600], ['min', 60], ['s', 1]];

export const count = (n) => whole.format(n);

/** Frames per second; a dash until it is known. */
export function rate(n) {
  if (n === null || n === undefined) return '–';
  return n >= 100 ? count(Math.round(n)) : n.toFixed(n > 0 && n < 1 ? 2 : 1);
}

export function bytes(n) {
  if (n < 1024) return `${n} B`;
  const [unit, size] = [['GiB', 2 ** 30], ['MiB', 2 ** 20], ['KiB', 1024]].find(([, least]) => n >= least);
  return `${(n / size).toFixed(1)} ${unit}`;
}

/** The text for a value of the node's statistics. */
export function fact(name, value) {
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return name.endsWith('_bytes') ? bytes(value) : count(value);
}

/** The mean of the measured times, and their number. */
export function mean({ count: measured, sum_seconds: sum }) {
  const micros = (sum / measured) * 1e6;
  const time = micros < 1000 ? `${micros.toFixed(micros < 10 ? 1 : 0)} µs` : micros < 1e6 ? `${(micros / 1000).toFixed(1)} ms` : `${(micros / 1e6).toFixed(1)} s`;
  return `${time} (${count(measured)})`;
}

/** The two largest units of a time. */
export function duration(seconds) {
  const first = UNITS.findIndex(([, size]) => seconds >= size);
  if (first < 0) return '0 s';
  const [unit, size] = UNITS[first];
  const next = UNITS[first + 1];
  const rest = next ? Math.floor((seconds % size) / next[1]) : 0;
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${next[0]}` : ''}`;
}

export const limit = (n, format = count) => (n === null ? 'no limit' : format(n));

/** The words of a name such as `refused_per_ip`. */
export function words(name) {
  const text = name.replaceAll('_', ' ').replace(/\bip\b/, 'IP').replace(/\bauth\b/, 'authentication');
  return text[0].toUpperCase() + text.slice(1);
}
