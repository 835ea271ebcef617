//! Functions that misbehave, on a platform of small limits.

use bytes::Bytes;
use coldread_loadtest::platform::cgroup::Hierarchy;
use coldread_loadtest::platform::fault::{Fault, FaultCounts};
use coldread_loadtest::platform::function::{Function, Program};
use coldread_loadtest::platform::instance::Settings;
use coldread_loadtest::platform::{Platform, Scaling};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A deployed function that behaves so. Tests that wait for a limit set a short one.
pub(crate) fn function(behaviour: &[&str]) -> Function {
    let mut command = vec![env!("CARGO_BIN_EXE_misbehaving-function").into()];
    command.extend(behaviour.iter().map(Into::into));
    let mut function = Function::new("test", Program::Command(command), 128);
    function.timeout = Duration::from_mins(1);
    function
}

/// Settings without limits on memory and processor.
pub(crate) fn settings() -> Settings {
    Settings::new(Path::new(env!("CARGO_BIN_EXE_coldread-loadtest")))
}

/// Settings with limits, if this machine lets us set them.
pub(crate) fn limited() -> Option<Settings> {
    let hierarchy = Hierarchy::find().ok()?;
    Some(Settings {
        hierarchy: Some(Arc::new(hierarchy)),
        ..settings()
    })
}

/// Scaling that waits for an instance that has answered as long as a busy machine
/// takes: what is tested is which instance is used, not how soon.
pub(crate) fn scaling() -> Scaling {
    Scaling {
        settling: Duration::from_mins(1),
        ..Scaling::default()
    }
}

/// A platform for a function, without limits.
pub(crate) fn platform(function: Function) -> Platform {
    Platform::new(function, settings(), scaling())
}

/// Invokes the function with an empty event.
pub(crate) async fn invoke(platform: &Platform) -> Result<Bytes, Fault> {
    let invoked = platform.invoke(Bytes::from_static(b"{}")).await;
    invoked.result.map(|(body, _report)| body)
}

/// All faults so far, as text.
pub(crate) fn faults(platform: &Platform) -> FaultCounts {
    platform.counts().faults
}
