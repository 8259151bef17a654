// Nothing is loaded from elsewhere: no validator's badge, no fonts.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  layout: "BaseLayout",
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
