// JSON whose whole numbers stay exact: JavaScript's own round those beyond 2^53, as seeds may be.

const TOKEN = /"(?:[^"\\]+|\\.)*"|-?\d[\d.eE+-]*/g;

const isRounded = (token) => /^-?\d{16,}$/.test(token) && !Number.isSafeInteger(Number(token));

/** As `JSON.parse`, but a whole number that would be rounded comes as the text of its digits. */
export function parse(text) {
  return JSON.parse(text.replace(TOKEN, (token) => (isRounded(token) ? `"${token}"` : token)));
}

/** An object as JSON; its own fields may be of type bigint. */
export function stringify(fields) {
  const written = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => {
      const text = typeof value === "bigint" ? String(value) : JSON.stringify(value);
      return `${JSON.stringify(name)}:${text}`;
    });
  return `{${written.join()}}`;
}
