//! Where a command's model is: a path, or a model of the Hub in the local cache.

use super::UsageError;
use coldread::config::ModelArgs;
use coldread::model::ModelSource;
use std::path::{Path, PathBuf};

/// The command's model, which is downloaded first if need be.
pub(crate) fn source(args: &ModelArgs) -> anyhow::Result<ModelSource> {
    let mut source = args.source();
    match &args.model {
        Some(model) => source.path = Some(locate(model, args)?),
        None => refuse_revision(args, "the model in the binary")?,
    }
    Ok(source)
}

/// A path that exists as it is, or the folder of the model of the Hub that is called so.
#[cfg(feature = "hub")]
pub(crate) fn locate(model: &Path, args: &ModelArgs) -> anyhow::Result<PathBuf> {
    use super::progress::Downloads;
    use coldread::hub::{Hub, HubId};

    let Some(id) = hub_id(model) else {
        refuse_revision(args, "a file or folder")?;
        return Ok(model.to_owned());
    };
    let id = HubId::parse(id, args.revision.as_deref())?;
    let mut downloads = Downloads::default();
    let folder = Hub::from_env(args.offline)?.fetch(&id, &mut |transfer| downloads.show(transfer));
    Ok(folder?)
}

#[cfg(not(feature = "hub"))]
pub(crate) fn locate(model: &Path, _args: &ModelArgs) -> anyhow::Result<PathBuf> {
    match hub_id(model) {
        None => Ok(model.to_owned()),
        Some(id) => Err(UsageError::new(format!(
            "{id}: no such file or folder, and this build does not download models; build one that \
             does: cargo build --release --features full"
        ))),
    }
}

/// What has the form of an id of the Hub and is no path: two names, such as
/// `OWNER/NAME`, of which the first says neither here nor home.
fn hub_id(model: &Path) -> Option<&str> {
    let text = model.to_str()?;
    let is_packed = model.extension().is_some_and(|end| end == "coldread");
    let id = text.split('@').next()?;
    let names = id.split('/').count();
    let is_id = names == 2 && !id.starts_with(['/', '.', '~']) && !id.ends_with('/');
    (is_id && !is_packed && !model.exists()).then_some(text)
}

#[cfg(feature = "hub")]
fn refuse_revision(args: &ModelArgs, model: &str) -> anyhow::Result<()> {
    match args.revision {
        None => Ok(()),
        Some(_) => Err(UsageError::new(format!(
            "--revision is for a model of the Hub, and this is {model}"
        ))),
    }
}

#[cfg(not(feature = "hub"))]
fn refuse_revision(_args: &ModelArgs, _model: &str) -> anyhow::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_paths() {
        for id in ["acme/mood", "acme/mood@v1", "acme/mood@refs/pr/1", "a b/c"] {
            assert_eq!(hub_id(Path::new(id)), Some(id));
        }
        for path in [
            "mood",
            "/acme/mood",
            "./mood",
            "../mood",
            "~/mood",
            "mood/",
            "a/b/c",
            "packed/mood.coldread",
            "src/cli",
        ] {
            assert_eq!(hub_id(Path::new(path)), None, "{path}");
        }
    }
}
