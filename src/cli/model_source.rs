//! From `--model` to a path: a file, a folder, or a model of the Hub in the local cache.

use super::UsageError;
use coldread::config::{LanguageArgs, ModelArgs};
use coldread::model::ModelSource;
use coldread::scorer::Scorer;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Ends of names that no model of the Hub has, but files have.
const FILE_ENDS: [&str; 8] = [
    "bin",
    "coldread",
    "gguf",
    "h5",
    "json",
    "onnx",
    "pt",
    "safetensors",
];

/// A folder with more entries than this is not searched for similar names.
const MAX_ENTRIES: usize = 10_000;

/// The command's model, which is downloaded first if need be.
pub(crate) fn open(args: &ModelArgs) -> anyhow::Result<ModelSource> {
    let mut source = args.source();
    match &args.model {
        Some(model) => source.path = Some(locate(model, args)?),
        None => reject_revision(args, "the model in the binary")?,
    }
    Ok(source)
}

/// The models of a command that can have two of them.
pub(crate) struct Models<'a> {
    model: ModelSource,
    also_model: Option<ModelSource>,
    languages: &'a LanguageArgs,
}

impl<'a> Models<'a> {
    /// The command's models, which are downloaded first if need be.
    pub(crate) fn open(args: &ModelArgs, languages: &'a LanguageArgs) -> anyhow::Result<Self> {
        let also_model = languages.also_model.as_ref().map(|path| {
            open(&ModelArgs {
                model: Some(path.clone()),
                #[cfg(feature = "hub")]
                revision: None,
                ..args.clone()
            })
        });
        Ok(Self {
            model: open(args)?,
            also_model: also_model.transpose()?,
            languages,
        })
    }

    /// Says how many workers will run them at most.
    pub(crate) fn set_workers(&mut self, workers: NonZeroUsize) {
        let sources = [Some(&mut self.model), self.also_model.as_mut()];
        for source in sources.into_iter().flatten() {
            source.workers = Some(workers);
        }
    }

    /// Loads them.
    pub(crate) fn load(&self) -> anyhow::Result<Scorer> {
        let model = self.model.load()?;
        let also_model = self
            .also_model
            .as_ref()
            .map(ModelSource::load)
            .transpose()?;
        let scorer = self.languages.scorer(&model, also_model.as_ref());
        scorer.map_err(|error| UsageError::new(error.to_string()))
    }
}

/// A path that exists as it is, or the folder of the model of the Hub with this id.
#[cfg(feature = "hub")]
pub(crate) fn locate(model: &Path, args: &ModelArgs) -> anyhow::Result<PathBuf> {
    use super::progress::Downloads;
    use coldread::hub::{Hub, HubError, HubId};

    if let Some(path) = existing(model) {
        reject_revision(args, "a file or folder")?;
        return Ok(path);
    }
    let similar = similar(model);
    let id = match (hub_id(model), &similar) {
        (Some(id), None) => HubId::parse(id, args.revision.as_deref())?,
        (_, similar) => {
            return Err(HubError::InvalidId {
                id: model.to_string_lossy().into_owned(),
                reason: hint(model, similar.as_deref()),
            }
            .into());
        }
    };
    let mut downloads = Downloads::default();
    let folder = Hub::from_env(args.offline)?.fetch(&id, &mut |transfer| downloads.show(transfer));
    Ok(folder?)
}

#[cfg(not(feature = "hub"))]
pub(crate) fn locate(model: &Path, _args: &ModelArgs) -> anyhow::Result<PathBuf> {
    if let Some(path) = existing(model) {
        return Ok(path);
    }
    let similar = similar(model);
    Err(UsageError::new(match hub_id(model) {
        Some(id) if similar.is_none() => format!(
            "{id}: no such file or folder, and this build cannot download models; build one that \
             can: cargo build --release --features full"
        ),
        _ => format!("{}: {}", model.display(), hint(model, similar.as_deref())),
    }))
}

/// A path that exists, or else a name's packed model in the folder `models` beside the program,
/// where an image has them.
fn existing(model: &Path) -> Option<PathBuf> {
    if model.exists() {
        return Some(model.to_owned());
    }
    let program = std::env::current_exe().ok()?;
    installed(model, program.parent()?)
}

fn installed(model: &Path, folder: &Path) -> Option<PathBuf> {
    let name = model
        .file_name()
        .filter(|name| *name == model.as_os_str())?;
    let mut file = name.to_owned();
    file.push(".coldread");
    let path = folder.join("models").join(file);
    path.is_file().then_some(path)
}

/// Why there is nothing at a path, as a hint.
fn hint(model: &Path, similar: Option<&Path>) -> String {
    match (similar, model.parent()) {
        (Some(similar), _) => format!("did you mean {:?}?", similar.display()),
        (None, Some(folder)) if !folder.as_os_str().is_empty() && !folder.exists() => {
            format!("no such folder: {:?}", folder.display())
        }
        _ => "no such file or folder".to_owned(),
    }
}

/// What may be an id or an address of the Hub and is not written as a path. Whether it
/// is a sound one is for [`coldread::hub::HubId`] to say.
fn hub_id(model: &Path) -> Option<&str> {
    let text = model.to_str()?;
    if text.contains("://") {
        return Some(text);
    }
    let end = model.extension().and_then(|end| end.to_str());
    let id = text.split('@').next()?;
    let is_path = id.starts_with(['/', '.', '~'])
        || id.ends_with('/')
        || (!id.contains(':') && end.is_some_and(|end| FILE_ENDS.contains(&end)));
    let is_address = ["huggingface.co/", "hf.co/"]
        .iter()
        .any(|host| id.starts_with(host));
    (!is_path && (is_address || id.split('/').count() <= 2)).then_some(text)
}

/// The path of a file or folder whose name differs by a slip of the keyboard.
fn similar(model: &Path) -> Option<PathBuf> {
    let wanted = model.file_name()?.to_str()?;
    let folder = model.parent()?;
    let entries = if folder.as_os_str().is_empty() {
        Path::new(".").read_dir()
    } else {
        folder.read_dir()
    };
    let most = (wanted.chars().count() / 4).min(2);
    let names = entries
        .ok()?
        .take(MAX_ENTRIES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let distances = names.map(|name| (strsim::damerau_levenshtein(&name, wanted), name));
    let (_, name) = distances.filter(|(distance, _)| *distance <= most).min()?;
    Some(folder.join(name))
}

#[cfg(feature = "hub")]
fn reject_revision(args: &ModelArgs, model: &str) -> anyhow::Result<()> {
    match args.revision {
        None => Ok(()),
        Some(_) => Err(UsageError::new(format!(
            "--revision needs a model of the Hub; --model is {model}"
        ))),
    }
}

#[cfg(not(feature = "hub"))]
fn reject_revision(_args: &ModelArgs, _model: &str) -> anyhow::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_paths() {
        for id in [
            "acme/mood",
            "acme/mood@v1",
            "acme/mood@refs/pr/1",
            "acme/mood:Q4_K_M",
            "acme/mood:mood-Q4_K_M.gguf",
            "acme/mood-v2.1",
            "a b/c",
            "mood",
            "https://huggingface.co/acme/mood/tree/main",
            "huggingface.co/acme/mood",
        ] {
            assert_eq!(hub_id(Path::new(id)), Some(id));
        }
        for path in [
            "/acme/mood",
            "./mood",
            "../mood",
            "~/mood",
            "mood/",
            "a/b/c",
            "mood.coldread",
            "packed/mood.coldread",
            "mood/model.safetensors",
        ] {
            assert_eq!(hub_id(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn a_name_is_a_model_beside_the_program() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("models/multilingual.coldread");
        std::fs::create_dir(folder.path().join("models")).expect("a folder");
        std::fs::write(&file, "").expect("a file");
        let find = |model: &str| installed(Path::new(model), folder.path());
        assert_eq!(find("multilingual"), Some(file));
        for other in [
            "other",
            "",
            ".",
            "..",
            "models/multilingual",
            "./multilingual",
        ] {
            assert_eq!(find(other), None, "{other}");
        }
    }

    #[test]
    fn a_typo_in_a_path_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["sentiment-v1", "sentiment-v2", "notes.txt"] {
            std::fs::write(folder.path().join(name), "").expect("a file");
        }
        let check = |typed: &str, expected: Option<&str>| {
            let expected = expected.map(|name| folder.path().join(name));
            assert_eq!(similar(&folder.path().join(typed)), expected, "{typed}");
        };
        check("sentimnet-v1", Some("sentiment-v1"));
        check("Sentiment-v2", Some("sentiment-v2"));
        check("sentiment", None);
        check("other", None);
        let missing = folder.path().join("no/such");
        assert!(hint(&missing, None).contains("no such folder"));
    }
}
