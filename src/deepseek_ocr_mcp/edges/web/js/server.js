// The server's sentences in the reader's language. A sentence that is not known here is shown as the server said it.

import { language, t } from "./i18n.js";

/** What a sentence looks like, and which key says the same; groups become the values `a`, `b`, `c`. */
const SENTENCES = [
  [/^blank, no text was found\.$/, "note.blank"],
  [/^'(.*)' was not found\.$/, "says.notFound"],
  [/^(\d+) of the (\d+) lines of this page seems? to be in ([\w ]+?)(?: script)?, which the bundled models/, "says.linesInScript"],
  [/^The text of this page seems to be in ([\w ]+?)(?: script)?, which the bundled models/, "says.pageInScript"],
  [/^(\d+) of the (\d+) lines of this page could not be read in full: faint/, "says.linesFaint"],
  [/^Most text on this page could not be read: faint/, "says.pageFaint"],
  [/^The document is an XFA form/, "says.xfa"],
  [/^The document holds (\d+) attached files?, which w(?:as|ere) not read: (.*)\.$/, "says.attached"],
  [/^The document is digitally signed; its signature was not checked\.$/, "says.signed"],
  [/^no usable text layer: it has none\.$/, "says.noLayer"],
  [/^no usable text layer: /, "note.no_text_layer"],
  [/^not all of it was read: most of the page is a scan\./, "says.scan"],
  [/^not all of it was read: /, "note.layer_incomplete"],
  [/^The engine (\S+) cannot do mode (\S+): it has no language model\.$/, "says.noModel"],
  [/^OCR_ENGINE is auto: a GPU, torch and the weights are here\.$/, "says.autoGpu"],
  [/^OCR_ENGINE is auto: the embedded engine, because no NVIDIA GPU was found\.$/, "says.autoNoGpu"],
  [/^OCR_ENGINE is auto: the embedded engine, because the weights of (\S+) are not here/, "says.autoNoWeights"],
  [/^OCR_ENGINE is auto: the embedded engine, because (.+) are not installed \(this installs them: (.+)\)\.$/, "says.autoNoPackages"],
  [/^OCR_ENGINE is auto: the embedded engine, because (.+)\.$/, "says.auto"],
  [/^OCR_ENGINE=(\S+)\.$/, "says.chosen"],
];

/** The sentence in the reader's language; "": in English, or where it is not known. */
export function inWords(sentence) {
  if (language() === "en") return "";
  for (const [pattern, key] of SENTENCES) {
    const match = pattern.exec(sentence);
    if (!match) continue;
    const [a, b, c] = match.slice(1);
    return t(key, { a, b, c });
  }
  return "";
}
