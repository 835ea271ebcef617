//! What a platform knows of a request beside the request itself. Its adapter in
//! [`crate::serve`] puts these into the request's extensions.

use std::time::Instant;

/// A request's context on its platform.
#[derive(Debug, Clone, Default)]
pub struct Platform {
    /// When the platform stops waiting for the response.
    pub deadline: Option<Instant>,
    /// The platform's id of the request.
    pub request_id: Option<String>,
    /// The function that was invoked.
    pub function_arn: Option<String>,
}

/// The path that the client requested and signed, where the platform changes it.
#[derive(Debug, Clone)]
pub(crate) struct OriginalPath(pub(crate) String);
