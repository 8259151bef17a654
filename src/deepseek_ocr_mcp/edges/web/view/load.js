// In the place of js/load.js: the app is one document, everything is there already, and nothing may be fetched.

import ja from "../lang/ja.js";
import simplified from "../lang/zh-CN.js";
import traditional from "../lang/zh-TW.js";

const WORDS = { ja, "zh-CN": simplified, "zh-TW": traditional };

export const library = async () => {};

export const stylesheet = async () => {};

export const words = async (code) => WORDS[code];

/** How KaTeX writes a formula: as MathML, which the browser sets by itself. Its own fonts would have to be fetched. */
export const FORMULA_OUTPUT = "mathml";
