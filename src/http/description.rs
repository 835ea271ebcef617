//! `/openapi.json`: the native API ([`openapi`]) and the formats of other services that this
//! server answers ([`compat`]) in one description.

use super::error::json;
use super::state::AppState;
use super::{compat, openapi};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

/// This description
#[cfg_attr(test, utoipa::path(get, path = "/openapi.json", tag = "api", responses((
    status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json",
))))]
pub(super) async fn description(State(app): State<AppState>) -> Response {
    json(StatusCode::OK, &document(&app))
}

/// The whole description of a server.
fn document(app: &AppState) -> Value {
    let (mut document, others) = openapi::document(app);
    let codes = openapi::codes(app, compat::native_codes(app).into_iter());
    document["components"]["schemas"]["ErrorDetail"]["properties"]["code"]["enum"] = codes;
    compat::describe(app, &mut document, &others);
    document
}

#[cfg(test)]
mod openapi_tests {
    use super::super::openapi::OPERATIONS;
    use super::super::{api, page};
    use super::*;
    use crate::rows::ResultRow;
    use crate::wire::ErrorBody;
    use utoipa::OpenApi;

    #[derive(OpenApi)]
    #[openapi(
        info(title = "coldread", description = "Sentiment of social-media posts."),
        paths(
            api::sentiment,
            api::info,
            api::healthz,
            api::readyz,
            api::metrics,
            description,
            page::index,
            page::docs
        ),
        components(schemas(ErrorBody, ResultRow))
    )]
    struct Operations;

    /// After a change: `COLDREAD_WRITE_OPENAPI=1 cargo test -q -p coldread --lib openapi`.
    #[test]
    fn operations_and_schemas_are_those_of_the_code() {
        let mut of_the_code = Operations::openapi();
        of_the_code.merge(compat::Operations::openapi());
        let of_the_code = serde_json::to_value(of_the_code).expect("serializable");
        if std::env::var_os("COLDREAD_WRITE_OPENAPI").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/openapi.json");
            std::fs::write(path, format!("{of_the_code:#}\n")).expect("written");
            return;
        }
        let written: Value = serde_json::from_str(OPERATIONS).expect("JSON");
        assert_eq!(written, of_the_code);
    }
}
