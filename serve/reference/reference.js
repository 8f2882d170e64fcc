// Nothing of this page asks another host: no fonts, no proxy, no telemetry, no hosted tools.
Scalar.createApiReference("#reference", {
  sources: [
    { title: "HTTP", slug: "http", url: "openapi.json", default: true },
    { title: "Events", slug: "events", url: "asyncapi.json" },
  ],
  proxyUrl: "",
  withDefaultFonts: false,
  telemetry: false,
  agent: { disabled: true },
  mcp: { disabled: true },
  showDeveloperTools: "never",
  hideClientButton: true,
  persistAuth: false,
  defaultHttpClient: { targetKey: "shell", clientKey: "curl" },
});
