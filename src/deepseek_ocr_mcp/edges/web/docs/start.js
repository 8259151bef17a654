// Nothing is loaded from elsewhere: no validator's badge, no fonts. Where the server asks for a token, the one that was
// given on the start page is used.
const kept = (store) => {
  try {
    return store().getItem("ocr.token");
  } catch {
    return null; // storage may be forbidden
  }
};
const token = kept(() => sessionStorage) ?? kept(() => localStorage);
const authorized = (request) => {
  const own = new URL(request.url, location.href).origin === location.origin;
  if (own && token && !request.headers.Authorization) request.headers.Authorization = `Bearer ${token}`;
  return request;
};

async function start() {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch("/openapi.json", { headers, cache: "no-store" });
  if (answer.status === 401) {
    document.querySelector("#locked").hidden = false;
    return;
  }
  SwaggerUIBundle({
    spec: await answer.json(),
    dom_id: "#api",
    deepLinking: true,
    layout: "BaseLayout",
    validatorUrl: null,
    requestInterceptor: authorized,
    presets: [SwaggerUIBundle.presets.apis],
  });
}

start();
