//! The routes by their paths, for metrics and logs.

/// The service's own routes, by the templates that metrics and logs know them by.
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

/// A route as metrics and logs know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Template {
    /// From a closed set, whatever path a configuration gives the route.
    pub(super) name: &'static str,
    /// Whether platforms probe it every few seconds.
    pub(super) is_health: bool,
}

/// All routes of this server.
pub(super) struct Routes(Vec<(String, Template)>);

impl Routes {
    /// The native routes, and those of other services' formats.
    pub(super) fn new(others: impl Iterator<Item = (String, Template)>) -> Self {
        let native = NATIVE.into_iter().map(|name| {
            let is_health = name == "/healthz" || name == "/readyz";
            (name.to_owned(), Template { name, is_health })
        });
        Self(native.chain(others).collect())
    }

    /// The route at a path that the router matched. A path that matches none was chosen by the
    /// client, so it has no name.
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
