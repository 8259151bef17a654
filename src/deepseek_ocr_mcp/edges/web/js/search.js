// Finds words in all pages that were read, in all files: as they stand, as whole words, or as a pattern.

const MOST = 2000; // hits of a page: more would only make the page slow
const WORD = "[\\p{L}\\p{N}_]";

/** The regular expression of the search; null: the term is empty, or no valid pattern. */
export function pattern(term, { whole = false, regex = false } = {}) {
  if (!term.trim()) return null;
  const source = regex ? term : term.trim().replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&").replace(/\s+/g, "\\s+");
  try {
    return new RegExp(whole ? `(?<!${WORD})(?:${source})(?!${WORD})` : source, "giu");
  } catch {
    return null;
  }
}

/** The number of hits in a text. */
export function count(text, wanted) {
  let n = 0;
  for (const match of text.matchAll(wanted)) if (match[0] && ++n >= MOST) break;
  return n;
}

/** The pages of an item that have hits: `[page, hits]`. */
export const pagesWith = (item, wanted) => (item.answer?.pages ?? []).map((page) => [page.page, count(page.text, wanted)]).filter(([, hits]) => hits);

/** The ranges of the hits in the text that is shown. */
export function ranges(root, wanted) {
  const nodes = [];
  let text = "";
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    nodes.push([text.length, walker.currentNode]);
    text += walker.currentNode.data;
  }
  const found = [];
  let at = 0;
  const place = (offset) => {
    while (at + 1 < nodes.length && nodes[at + 1][0] <= offset) at += 1;
    return [nodes[at][1], offset - nodes[at][0]];
  };
  for (const match of text.matchAll(wanted)) {
    if (!match[0]) continue;
    const range = document.createRange();
    range.setStart(...place(match.index));
    range.setEnd(...place(match.index + match[0].length));
    found.push(range);
    if (found.length >= MOST) break;
  }
  return found;
}
