//! What the languages of posts decide.

use crate::scorer::{OtherLanguages, Scorer, ScorerError};
use coldread_engine::Model;
use std::path::PathBuf;

/// Settings for posts in various languages.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Languages")]
pub struct LanguageArgs {
    /// What to do with a post in a language that the model was not trained for: `score` it anyway,
    /// or `reject` it with `unsupported_language`. A post whose language is unsure, such as one of
    /// a few letters, is always scored. A model's languages are those in its config.json.
    #[arg(
        long,
        env = "COLDREAD_OTHER_LANGUAGES",
        default_value = "score",
        value_name = "ACTION"
    )]
    pub other_languages: OtherLanguages,

    /// A second model, named as for --model, for the posts in its languages. --model scores those
    /// in its own languages, in languages that neither serves, and posts whose language is unsure.
    /// Both models must have the same labels, and their languages in their config.json.
    #[arg(long, env = "COLDREAD_ALSO_MODEL", value_name = "PATH|HUB_ID")]
    pub also_model: Option<PathBuf>,
}

impl LanguageArgs {
    /// A scorer with these settings, of the model and of the one that `also_model` names.
    ///
    /// # Errors
    /// If a model does not say what the settings need, or the models do not go together.
    pub fn scorer(&self, model: &Model, also_model: Option<&Model>) -> Result<Scorer, ScorerError> {
        let mut scorer = Scorer::from(model.classifier());
        if let Some(model) = also_model {
            scorer = scorer.with_model(model)?;
        }
        scorer.with_other_languages(self.other_languages)
    }
}
