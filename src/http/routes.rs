//! Route templates for metrics and logs, looked up by path.

/// The native routes. Their paths are also their templates.
pub(super) const NATIVE: [&str; 12] = [
    "/",
    "/page.css",
    "/page.js",
    "/docs",
    "/docs/",
    "/docs.js",
    "/openapi.json",
    "/v1/sentiment",
    "/v1/info",
    "/metrics",
    "/healthz",
    "/readyz",
];

/// How a route appears in metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Template {
    /// From a closed set, whatever path the configuration gives the route.
    pub(super) name: &'static str,
    /// Whether it is a health check, which platforms send every few seconds.
    pub(super) is_health: bool,
}

/// The templates of all routes of this server.
pub(super) struct Routes(Vec<(String, Template)>);

impl Routes {
    /// The native routes, and those that the configuration adds.
    pub(super) fn new(others: impl Iterator<Item = (String, Template)>) -> Self {
        let native = NATIVE.into_iter().map(|name| {
            let is_health = name == "/healthz" || name == "/readyz";
            (name.to_owned(), Template { name, is_health })
        });
        Self(native.chain(others).collect())
    }

    /// The template of a path that the router matched. Any other path was chosen by the client
    /// and is not recorded.
    pub(super) fn find(&self, path: &str) -> Template {
        let found = self.0.iter().find(|(known, _)| known == path);
        found.map_or(
            Template {
                name: "none",
                is_health: false,
            },
            |(_, template)| *template,
        )
    }
}
