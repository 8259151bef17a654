// The server's sentences in the reader's language. A sentence that is not known here is shown as the server said it.

import { language, t } from "./i18n.js";

/** The pattern of a sentence, and the key of its translation; groups become the values `a`, `b`, `c`. */
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
  [/^There is no NVIDIA driver on this machine/, "says.noDriver"],
  [/^The NVIDIA kernel driver is not loaded/, "says.driverOff"],
  [/^This user may not use the NVIDIA driver/, "says.driverClosed"],
  [/^The NVIDIA driver was updated while it ran/, "says.driverOld"],
  [/^The NVIDIA driver does not answer/, "says.driverHung"],
  [/^(.*) has ([\d.]+) MiB(?: or more)?; the limit is (\d+) MiB\./, "says.tooManyMb"],
  [/^(.*) has more than (\d+) pages\./, "says.tooManyPages"],
  [/^(.*) has (\d+ by \d+) pixels; the limit is ([\d.]+) megapixels\./, "says.tooManyPixels"],
  [/^(.*) has (\d+ by \d+) pixels, too few to hold text\./, "says.tooSmall"],
  [/^(.*) is ([\d.]+ by [\d.]+) inches large\./, "says.tooWide"],
  [/^(.*) needs more memory than a page of the allowed size\./, "says.memory"],
  [/^(.*) is cut off: its end is missing\./, "says.cutOff"],
  [/^(.*) is damaged, or of a kind that is not read\./, "says.damaged"],
  [/^(.*) is empty\./, "says.empty"],
  [/^(.*) has no pages\./, "says.noPages"],
  [/^(.*) has no size\./, "says.noSize"],
  [/^(.*) has no page (\d+); it has (\d+)\./, "says.noPage"],
  [/^(.*) is locked with a password\./, "says.locked"],
  [/^(.*) does not open with this password\./, "says.wrongPassword"],
  [/^(.*) is encrypted in a way that is not read\./, "says.unknownLock"],
  [/^The decoder crashed over (.*?)\. /, "says.crashed"],
  [/^The decoder crashed over (.*)\.$/, "says.crashed"],
  [/^Decoding (.*) took over ([\d.]+) s and was stopped\./, "says.slowDecode"],
  [/^pages=(.*) lies beyond the end: the document has (\d+) page/, "says.beyond"],
  [/^pages=(.*) (?:is no page range|counts backwards or from 0)\./, "says.noRange"],
  [/^pages has (\d+) characters\./, "says.longRange"],
  [/^(.+) is no pattern: /, "says.noPattern"],
  [/^The pattern (.+) (?:calls itself|repeats its groups too often)\./, "says.heavyPattern"],
  [/^The search for the pattern (.+) takes too long\./, "says.slowPattern"],
  [/^find_term has (\d+) terms, and at most (\d+)/, "says.manyTerms"],
  [/^A term of find_term is longer than (\d+) characters\./, "says.longTerm"],
  [/^The engine (\S+) finds one sequence of words at a time/, "says.wordsOnly"],
  [/^None of (.*) was found\./, "says.noneFound"],
  [/^These pages have no table\./, "says.noTable"],
  [/^None of these pages has blocks with text and a box/, "says.noBoxes"],
  [/^The model has been loading for (\d+) s and is not ready yet\./, "says.loading"],
  [/^(?:The queue is full: |\d+ requests wait or are being read)/, "error.queue_full"],
  [/^The document could not be opened within ([\d.]+) s\./, "says.notOpened"],
  [/^The server is shutting down\./, "state.closed"],
  [/^(.*) is text already, not a picture of text\./, "says.alreadyText"],
  [/^(.*) is (?:a web page, not a document|of a format that is not read|.+, which is not read)\./, "says.otherFormat"],
  [/^Codes were read beside the text \((.*)\); their/, "says.codes"],
  [/^Codes were read beside the text \((.*)\); each/, "says.codeBlocks"],
  [/^the model reached the length of its longest answer/, "finish.length"],
  [/^the model began to repeat itself/, "finish.loop"],
  [/^reading was stopped before the end/, "finish.cancelled"],
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
