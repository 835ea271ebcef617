//! Packed models as the engine's weights.

use super::Weights;
use coldread_model::layout::{Embeddings, Head, Layer};
use coldread_model::{ModelConfig, PackedModel};

impl Weights for PackedModel {
    fn config(&self) -> &ModelConfig {
        self.config()
    }

    fn embeddings(&self) -> Embeddings<'_> {
        self.embeddings()
    }

    fn layer(&self, index: usize) -> Layer<'_> {
        self.layer(index)
    }

    fn head(&self) -> Head<'_> {
        self.head()
    }
}
