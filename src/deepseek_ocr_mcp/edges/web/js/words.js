// The words of a block: which one is under the pointer, on the picture and in the text, and where it stands in the other.

const LETTER = /[\p{L}\p{N}]/u;
const letters = (text) => [...text].filter((char) => LETTER.test(char)).length;

/** The text nodes that say what a block says, in their order. */
function* textsOf(root, block) {
  for (const bit of root.querySelectorAll(`.bit[data-block="${block}"]`)) {
    const walker = document.createTreeWalker(bit, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) yield walker.currentNode;
  }
}

/** Where a word of a block stands in the text; null: it is not found there. Only letters and digits are counted. */
export function rangeOf(root, block, words, index) {
  let skip = words.slice(0, index).reduce((sum, word) => sum + letters(word.text), 0);
  let left = letters(words[index].text);
  if (!left) return null;
  const range = document.createRange();
  let begun = false;
  for (const node of textsOf(root, block)) {
    let offset = 0;
    for (const char of node.data) {
      if (LETTER.test(char)) {
        if (skip > 0) skip -= 1;
        else {
          if (!begun) range.setStart(node, offset);
          begun = true;
          left -= 1;
          if (!left) {
            range.setEnd(node, offset + char.length);
            return range;
          }
        }
      }
      offset += char.length;
    }
  }
  return null;
}

/** The word of a block at a point of the screen; -1: none. */
export function wordAt(root, block, words, x, y) {
  const at = document.caretPositionFromPoint?.(x, y);
  const range = at ? null : document.caretRangeFromPoint?.(x, y);
  const [node, offset] = at ? [at.offsetNode, at.offset] : range ? [range.startContainer, range.startOffset] : [null, 0];
  let before = 0;
  for (const text of textsOf(root, block)) {
    if (text !== node) {
      before += letters(text.data);
      continue;
    }
    before += letters(text.data.slice(0, offset));
    for (let index = 0; index < words.length; index++) {
      const long = letters(words[index].text);
      if (long && before <= long) return before < long || index === words.length - 1 || !LETTER.test(text.data[offset] ?? "") ? index : index + 1;
      before -= long;
    }
    return -1;
  }
  return -1;
}

/** Marks places in the text without changing it; browsers that cannot do that mark nothing. */
export function mark(name, ranges) {
  if (!globalThis.CSS?.highlights) return;
  if (ranges.length) CSS.highlights.set(name, new Highlight(...ranges));
  else CSS.highlights.delete(name);
}
