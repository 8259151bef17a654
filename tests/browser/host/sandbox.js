// The frame between host and app, as the specification demands it: of another origin than the host, it loads the app and
// passes messages on. Its policy comes with its headers, and the app inherits it.

const inner = document.createElement("iframe");
inner.title = "DeepSeek OCR";
document.body.append(inner);
const host = new URL(document.referrer).origin;

window.addEventListener("message", ({ source, origin, data }) => {
  if (source === window.parent && origin === host) {
    if (data?.method !== "ui/notifications/sandbox-resource-ready") return inner.contentWindow.postMessage(data, "*");
    const { html, sandbox } = data.params;
    inner.setAttribute("sandbox", sandbox);
    inner.setAttribute("allow", "clipboard-write");
    if (sandbox.includes("allow-same-origin")) {
      inner.contentDocument.open();
      inner.contentDocument.write(html);
      inner.contentDocument.close();
    } else inner.srcdoc = html;
  } else if (source === inner.contentWindow) window.parent.postMessage(data, host);
});

window.parent.postMessage({ jsonrpc: "2.0", method: "ui/notifications/sandbox-proxy-ready", params: {} }, host);
