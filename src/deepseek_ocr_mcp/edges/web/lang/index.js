// The languages of the page: a file of the same name beside this one, and a line here.
export const LANGUAGES = {
  en: "English",
  "zh-CN": "简体中文",
  "zh-TW": "繁體中文",
  ja: "日本語",
};
