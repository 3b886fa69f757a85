//! Dimensions, names and shapes of an encoder's weights, and which of them are trained.
//!
//! Knows no arithmetic.

use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why an encoder cannot be built or run.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// A weight is absent.
    #[error("tensor `{name}` is missing; expected shape {expected:?}")]
    Missing {
        /// Name without `bert.`.
        name: String,
        /// Shape the configuration asks for.
        expected: Vec<usize>,
    },
    /// A weight does not fit the configuration.
    #[error("tensor `{name}` has shape {found:?}; expected {expected:?}")]
    Shape {
        /// Name without `bert.`.
        name: String,
        /// Shape the configuration asks for.
        expected: Vec<usize>,
        /// Shape in the weights.
        found: Vec<usize>,
    },
    /// The configuration describes a model this encoder is not.
    #[error("unsupported model configuration: {0}")]
    Unsupported(String),
    /// A batch that cannot be encoded.
    #[error("cannot encode batch: {0}")]
    Batch(String),
    /// The tensor library failed.
    #[error("encoder arithmetic failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Dimensions, as in a model folder's `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderConfig {
    /// H, numbers a hidden state.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads; must divide `hidden_size`.
    pub num_attention_heads: usize,
    /// Inner width of the feed-forward part.
    pub intermediate_size: usize,
    /// Rows of the word embedding.
    pub vocab_size: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Rows of the token type embedding.
    pub type_vocab_size: usize,
    /// Added to variances.
    pub layer_norm_eps: f64,
    /// Activation; only `gelu` (erf form) is supported.
    #[serde(default = "gelu")]
    pub hidden_act: String,
}

fn gelu() -> String {
    "gelu".to_owned()
}

impl EncoderConfig {
    /// Fails where the dimensions do not fit each other or name another activation.
    pub fn check(&self) -> Result<(), EncoderError> {
        let unsupported = |what: String| Err(EncoderError::Unsupported(what));
        if self.hidden_act != "gelu" {
            return unsupported(format!("hidden_act `{}`; expected `gelu`", self.hidden_act));
        }
        let heads = self.num_attention_heads;
        if heads == 0 || !self.hidden_size.is_multiple_of(heads) {
            let hidden = self.hidden_size;
            return unsupported(format!("{heads} attention heads do not divide width {hidden}"));
        }
        if self.type_vocab_size < 2 {
            return unsupported("type_vocab_size below 2; pairs need two token types".to_owned());
        }
        Ok(())
    }

    /// Every weight of the encoder with its shape, in a fixed order.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (h, inner) = (self.hidden_size, self.intermediate_size);
        let mut shapes = vec![
            ("embeddings.word_embeddings.weight".to_owned(), vec![self.vocab_size, h]),
            (
                "embeddings.position_embeddings.weight".to_owned(),
                vec![self.max_position_embeddings, h],
            ),
            ("embeddings.token_type_embeddings.weight".to_owned(), vec![self.type_vocab_size, h]),
            ("embeddings.LayerNorm.weight".to_owned(), vec![h]),
            ("embeddings.LayerNorm.bias".to_owned(), vec![h]),
        ];
        for layer in 0..self.num_hidden_layers {
            let mut push = |part: &str, weight: Vec<usize>| {
                let name = format!("encoder.layer.{layer}.{part}");
                shapes.push((format!("{name}.bias"), vec![weight[0]]));
                shapes.push((format!("{name}.weight"), weight));
            };
            push("attention.self.query", vec![h, h]);
            push("attention.self.key", vec![h, h]);
            push("attention.self.value", vec![h, h]);
            push("attention.output.dense", vec![h, h]);
            push("attention.output.LayerNorm", vec![h]);
            push("intermediate.dense", vec![inner, h]);
            push("output.dense", vec![h, inner]);
            push("output.LayerNorm", vec![h]);
        }
        shapes
    }
}

/// Which weights get a gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trainable {
    /// None: the model serves.
    #[default]
    Nothing,
    /// Encoder layers from this one upward, and every head.
    FromLayer(usize),
    /// All, embeddings included.
    All,
}

impl Trainable {
    /// Whether the weight of this name (without `bert.`) is trained.
    pub fn covers(self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::FromLayer(first) => match name.strip_prefix("encoder.layer.") {
                Some(rest) => {
                    let layer = rest.split('.').next().and_then(|n| n.parse::<usize>().ok());
                    layer.is_some_and(|layer| layer >= first)
                }
                None => !name.starts_with("embeddings."),
            },
        }
    }
}

/// Weights by name: frozen tensors, or variables where they are trained.
#[derive(Debug, Clone)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
    variables: BTreeMap<String, Var>,
}

impl Weights {
    /// Weights that serve.
    pub fn frozen(tensors: BTreeMap<String, Tensor>) -> Self {
        Self { tensors, variables: BTreeMap::new() }
    }

    /// Copies the covered tensors into variables; the rest stay as they are.
    pub fn trainable(
        mut tensors: BTreeMap<String, Tensor>,
        which: Trainable,
    ) -> Result<Self, candle_core::Error> {
        let mut variables = BTreeMap::new();
        for (name, tensor) in &mut tensors {
            if which.covers(name) {
                let variable = Var::from_tensor(&tensor.copy()?)?;
                *tensor = variable.as_tensor().clone();
                variables.insert(name.clone(), variable);
            }
        }
        Ok(Self { tensors, variables })
    }

    /// What is trained, in the order of names.
    pub fn variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    /// Every tensor as it is now. Those being trained change under the reader: see `snapshot`.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// The tensor of this name, if it has the shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, EncoderError> {
        let Some(tensor) = self.tensors.get(name) else {
            return Err(EncoderError::Missing { name: name.to_owned(), expected: shape.to_vec() });
        };
        if tensor.dims() != shape {
            return Err(EncoderError::Shape {
                name: name.to_owned(),
                expected: shape.to_vec(),
                found: tensor.dims().to_vec(),
            });
        }
        Ok(tensor.clone())
    }

    /// Copies of every trained tensor and the frozen ones as they are: safe to serve from.
    pub fn snapshot(&self) -> Result<BTreeMap<String, Tensor>, candle_core::Error> {
        let mut copies = BTreeMap::new();
        for (name, tensor) in &self.tensors {
            let copy = match self.variables.contains_key(name) {
                true => tensor.copy()?.detach(),
                false => tensor.clone(),
            };
            copies.insert(name.clone(), copy);
        }
        Ok(copies)
    }
}
