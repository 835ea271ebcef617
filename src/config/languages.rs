//! What the languages of posts decide.

use crate::scorer::{OtherLanguages, Scorer, ScorerError};
use coldread_engine::Model;

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
}

impl LanguageArgs {
    /// A scorer with these settings.
    ///
    /// # Errors
    /// If the model does not say what the settings need.
    pub fn scorer(&self, model: &Model) -> Result<Scorer, ScorerError> {
        Scorer::from(model.classifier()).with_other_languages(self.other_languages)
    }
}
