// Fetches libraries when they are needed. The app in a host may fetch nothing: view/load.js takes this place there.

import { h } from "./dom.js";

/** A library; it puts itself into `globalThis`. */
export const library = (path) => import(`../vendor/${path}`);

export const stylesheet = (path) =>
  new Promise((resolve) => document.head.append(h("link", { rel: "stylesheet", href: `/static/vendor/${path}`, onload: resolve, onerror: resolve })));

/** The words of a language other than English. */
export const words = async (code) => (await import(`../lang/${code}.js`)).default;

/** How KaTeX writes a formula: with its own fonts for the eye, and as MathML for the ear. */
export const FORMULA_OUTPUT = "htmlAndMathml";
