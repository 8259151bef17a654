// Runs before the first paint: no flash of the other theme, and none of English for those who read another language.
(() => {
  const root = document.documentElement;
  let theme = null;
  let language = null;
  try {
    theme = localStorage.getItem("ocr.theme");
    language = localStorage.getItem("ocr.language");
  } catch {
    // Storage may be forbidden; then nothing is remembered.
  }
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  if (!(language ?? navigator.language ?? "en").startsWith("en")) {
    root.dataset.hold = "";
    setTimeout(() => delete root.dataset.hold, 1500); // ms: a page in English is better than none
  }
})();
