// Tables as other programs take them: cells parted by tabs, CSV, and HTML without anything of this page's own.

const NUMBER = /^[+-]\s?[\d.,\s]*\d\s?%?$/;

/** The cells of a table, row by row; a cell that spans several has its text in the first of them. */
export function cells(table) {
  const rows = [...table.rows].map(() => []);
  [...table.rows].forEach((row, y) => {
    let x = 0;
    for (const cell of row.cells) {
      while (rows[y][x] !== undefined) x += 1;
      for (let down = 0; down < Math.min(cell.rowSpan, rows.length - y); down++) {
        for (let right = 0; right < cell.colSpan; right++) rows[y + down][x + right] = down || right ? "" : textOf(cell);
      }
      x += cell.colSpan;
    }
  });
  const width = Math.max(0, ...rows.map((row) => row.length));
  return rows.map((row) => Array.from({ length: width }, (_, x) => row[x] ?? ""));
}

function textOf(cell) {
  const copy = cell.cloneNode(true);
  for (const formula of copy.querySelectorAll("[data-source]")) formula.replaceWith(formula.dataset.source);
  for (const line of copy.querySelectorAll("br")) line.replaceWith(" ");
  return copy.textContent.replace(/\s+/g, " ").trim();
}

export const asTsv = (rows) => rows.map((row) => row.join("\t")).join("\n");

/** A spreadsheet takes a cell that begins so for a formula, and the page may come from a stranger. */
const harmless = (text) => (/^[=@]/.test(text) || (/^[+-]/.test(text) && !NUMBER.test(text)) ? `'${text}` : text);

export const asCsv = (rows) =>
  rows.map((row) => row.map((cell) => (/[",\n;]/.test(harmless(cell)) ? `"${harmless(cell).replaceAll('"', '""')}"` : harmless(cell))).join(",")).join("\r\n");

const PLAIN = new Set(["TABLE", "THEAD", "TBODY", "TFOOT", "TR", "TH", "TD", "CAPTION", "P", "H1", "H2", "H3", "H4", "H5", "H6", "UL", "OL", "LI", "BLOCKQUOTE", "PRE", "CODE", "B", "I", "U", "EM", "STRONG", "S", "SUP", "SUB", "BR", "HR", "A"]);

const KEPT = ["href", "colspan", "rowspan", "start"]; // attributes
const EMPTY = new Set(["BR", "HR"]);
const quoted = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;");

/** The rendered text as HTML for a text processor: its structure, without classes and attributes of this page. */
export function bareHtml(node) {
  let out = "";
  for (const child of node.childNodes) {
    if (child.nodeType === Node.TEXT_NODE) out += quoted(child.data);
    else if (child.nodeType !== Node.ELEMENT_NODE || child.matches("button, canvas")) continue;
    else if (child.dataset?.source !== undefined) out += quoted(child.dataset.source);
    else if (!PLAIN.has(child.tagName)) out += bareHtml(child);
    else {
      const name = child.tagName.toLowerCase();
      const attributes = KEPT.filter((attribute) => child.hasAttribute(attribute)).map((attribute) => ` ${attribute}="${quoted(child.getAttribute(attribute))}"`);
      out += `<${name}${attributes.join("")}${name === "table" ? ' border="1"' : ""}>${EMPTY.has(child.tagName) ? "" : `${bareHtml(child)}</${name}>`}`;
    }
  }
  return out;
}
