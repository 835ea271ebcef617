//! The path of a route, derived from the path that a gateway received.
//!
//! API Gateway deploys an API under a stage and, on a custom domain, under a base path;
//! neither is part of a route. [`route_path`] works from the event's path and its
//! request context, which is the only way to tell a stage named `v1` from the route prefix `/v1`.

use super::request::Gateway;
use serde_json::Value;

/// The client's path with stage and base path, which is what it signed.
pub(super) fn original_path(gateway: Gateway, event: &Value) -> &str {
    let with_stage = match gateway {
        // A REST API's event has it in its context only.
        Gateway::RestApi => event["requestContext"]["path"].as_str(),
        Gateway::HttpApi | Gateway::LoadBalancer => None,
    };
    with_stage.unwrap_or(raw_path(gateway, event))
}

fn raw_path(gateway: Gateway, event: &Value) -> &str {
    let path = match gateway {
        Gateway::HttpApi => event["rawPath"]
            .as_str()
            .or(event["requestContext"]["http"]["path"].as_str()),
        Gateway::RestApi | Gateway::LoadBalancer => event["path"].as_str(),
    };
    path.unwrap_or_default()
}

/// The path without stage and base path.
pub(super) fn route_path(gateway: Gateway, event: &Value) -> String {
    let raw_path = raw_path(gateway, event);
    let context = &event["requestContext"];
    let is_own_domain = is_own_domain(context["domainName"].as_str());
    let (template, has_stage) = match gateway {
        // A REST API's `path` comes without the stage and its context's with it, so where
        // both are equal on the API's own domain the stage is in both.
        Gateway::RestApi => (
            context["resourcePath"].as_str(),
            is_own_domain && context["path"].as_str() == Some(raw_path),
        ),
        // `POST /v1/{proxy+}`, or `$default`, which does not contain the path.
        Gateway::HttpApi => {
            let route = context["routeKey"].as_str();
            let path = route.and_then(|route| route.split_once(' '));
            (path.map(|(_method, path)| path), is_own_domain)
        }
        Gateway::LoadBalancer => (None, false),
    };
    // The route that API Gateway matched gives the path below stage and base path, if its
    // parameters were not decoded.
    if let Some(template) = template
        && let Some(path) = expand(template, &event["pathParameters"])
        && raw_path.ends_with(&path)
    {
        return path;
    }
    let stage = context["stage"].as_str().filter(|_| has_stage);
    let stripped = stage
        .and_then(|stage| raw_path.strip_prefix('/')?.strip_prefix(stage))
        .filter(|rest| rest.is_empty() || rest.starts_with('/'));
    stripped.unwrap_or(raw_path).to_owned()
}

/// Whether requests came to the API's own domain, where a named stage is part of the
/// path. On a custom domain it is not.
fn is_own_domain(domain_name: Option<&str>) -> bool {
    domain_name.is_none_or(|name| name.contains(".execute-api."))
}

/// `/v1/{name}` or `/{proxy+}` with the request's parameters filled in.
fn expand(template: &str, parameters: &Value) -> Option<String> {
    let mut path = String::new();
    for segment in template.strip_prefix('/')?.split('/') {
        path.push('/');
        let name = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
        path.push_str(match name {
            Some(name) => parameters[name.trim_end_matches('+')].as_str()?,
            None => segment,
        });
    }
    Some(path)
}
