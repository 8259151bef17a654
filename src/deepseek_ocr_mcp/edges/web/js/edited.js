// Puts text that was edited by hand back into the places where it was read, for formats that keep places.
//
// A changed word takes the place of the word that it replaces. Words that were put in beside a word share its place.
// A word without a neighbour that was read has no place: the page counts such words and tells the reader.

const MOST_STEPS = 600; // of a comparison, 0.2 s: a text that differs more was written anew, and its middle counts as one change
const MOST_BESIDE = 12; // words that may share the place of one: more would be a line that was never there
const TOKEN = /[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f]|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f]+/gu;
const CLOSE = /^[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f]$/u; // characters of scripts without spaces

const tokens = (text) => text.match(TOKEN) ?? [];

const joined = (parts) => parts.reduce((text, part) => text + (text && !(CLOSE.test(part) && CLOSE.test(text.at(-1))) ? " " : "") + part, "");

/** The parts in which two lists differ: `[from, to, otherFrom, otherTo]`, in order (Myers' greedy comparison). */
export function differences(before, after) {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start += 1;
  let ends = 0;
  while (ends < before.length - start && ends < after.length - start && before.at(-1 - ends) === after.at(-1 - ends)) ends += 1;
  const [n, m] = [before.length - start - ends, after.length - start - ends];
  if (!n && !m) return [];
  const whole = [[start, start + n, start, start + m]];
  if (!n || !m) return whole;
  const reached = new Map([[1, 0]]);
  const trace = [];
  for (let d = 0; d <= Math.min(n + m, MOST_STEPS); d++) {
    trace.push(new Map(reached));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && reached.get(k - 1) < reached.get(k + 1));
      let x = down ? reached.get(k + 1) : reached.get(k - 1) + 1;
      while (x < n && x - k < m && before[start + x] === after[start + x - k]) x += 1;
      reached.set(k, x);
      if (x >= n && x - k >= m) return path(trace, n, m).map(([a, b, c, e]) => [a + start, b + start, c + start, e + start]);
    }
  }
  return whole;
}

/** The differences on the way that was found, neighbours as one. */
function path(trace, n, m) {
  const found = [];
  let [x, y] = [n, m];
  for (let d = trace.length - 1; d > 0; d--) {
    const reached = trace[d];
    const k = x - y;
    const down = k === -d || (k !== d && reached.get(k - 1) < reached.get(k + 1));
    const fromK = down ? k + 1 : k - 1;
    const fromX = reached.get(fromK);
    const fromY = fromX - fromK;
    const last = found[0];
    const [toX, toY] = down ? [fromX, fromY + 1] : [fromX + 1, fromY];
    if (last && last[0] === toX && last[2] === toY) [last[0], last[2]] = [fromX, fromY];
    else found.unshift([fromX, toX, fromY, toY]);
    [x, y] = [fromX, fromY];
  }
  return found;
}

/** The words of a block, line by line as its text has them: `{text, box, spaced}`. */
function rowsOf(block) {
  const lines = (block.text ?? "").split("\n").filter((line) => line.trim());
  const words = block.words?.length ? block.words : null;
  if (!words) return lines.map((line) => line.trim().split(/\s+/).map((text) => ({ text, spaced: true })));
  const rows = [];
  let at = 0;
  for (const line of lines) {
    const row = [];
    let place = line.length - line.trimStart().length;
    while (at < words.length && line.startsWith(words[at].text, place)) {
      place += words[at].text.length;
      const spaced = /\s/.test(line[place] ?? "");
      while (/\s/.test(line[place] ?? "")) place += 1;
      row.push({ ...words[at], spaced });
      at += 1;
    }
    rows.push(row);
  }
  return at === words.length && rows.length ? rows : [words.map((word) => ({ ...word, spaced: true }))];
}

/**
 * The blocks of a page with the words of the edited text in their places, and how many words have none.
 * `before` and `after` are the texts without markup.
 */
export function placed(blocks, before, after) {
  const rows = blocks.map(rowsOf);
  // Every token of every word, with the way back to it.
  const own = [];
  for (const block of rows) for (const row of block) for (const word of row) {
    word.parts = tokens(word.text).map((text) => ({ text, now: [text] }));
    own.push(...word.parts);
  }
  const was = tokens(before);
  const now = tokens(after);
  // Which token of the blocks each token of the text is.
  const at = new Array(was.length).fill(-1);
  let [i, j] = [0, 0];
  for (const [from, to, otherFrom, otherTo] of [...differences(was, own.map((part) => part.text)), [was.length, was.length, own.length, own.length]]) {
    for (; i < from; i++, j++) at[i] = j;
    [i, j] = [to, otherTo];
  }
  let homeless = 0;
  for (const [from, to, otherFrom, otherTo] of differences(was, now)) {
    const words = now.slice(otherFrom, otherTo);
    const places = at.slice(from, to).filter((place) => place >= 0).map((place) => own[place]);
    for (const place of places) place.now = [];
    if (!words.length) continue;
    const beside = places.length ? places : [own[at.slice(0, from).findLast((place) => place >= 0)]].filter(Boolean);
    if (!beside.length || words.length > beside.length + MOST_BESIDE) homeless += words.length;
    else words.forEach((word, n) => beside[Math.min(n, beside.length - 1)].now.push(word));
  }
  return { blocks: blocks.map((block, n) => rebuilt(block, rows[n])), homeless };
}

function rebuilt(block, rows) {
  if (rows.every((row) => row.every((word) => word.parts.every((part) => part.now.length === 1 && part.now[0] === part.text)))) return block;
  const words = [];
  const lines = rows.map((row) => {
    let line = "";
    for (const word of row) {
      const text = joined(word.parts.flatMap((part) => part.now));
      if (!text) continue;
      line += text + (word.spaced ? " " : "");
      if (word.box) words.push({ text, box: word.box });
    }
    return line.trimEnd();
  });
  const text = lines.filter(Boolean).join("\n");
  return { ...block, text, words: block.words?.length ? words : undefined };
}
