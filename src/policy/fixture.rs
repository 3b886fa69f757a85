//! A tiny random reader made in code: same files, same heads, a few kilobytes.
//!
//! For tests of everything that needs a model folder; it knows nothing and reads nothing. The same
//! seed gives the same bytes.

use super::encoder::EncoderConfig;
use super::model_folder::{ModelFolderError, Precision, write_folder};
use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::Tokenizer;

/// Writes `config.json`, `tokenizer.json` and `model.safetensors` of a random two-layer reader of
/// width 16, with a WordPiece vocabulary of letters, digits and signs, into `folder`.
#[doc(hidden)]
pub fn write_tiny_model(folder: &Path, seed: u64) -> Result<(), ModelFolderError> {
    let vocabulary = vocabulary();
    let config = EncoderConfig {
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 32,
        vocab_size: vocabulary.len(),
        max_position_embeddings: 192,
        type_vocab_size: 2,
        layer_norm_eps: 1e-12,
        hidden_act: "gelu".to_owned(),
    };
    let malformed =
        |reason: String| ModelFolderError::Malformed { path: folder.to_path_buf(), reason };
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shapes = config.shapes();
    shapes.push(("span.weight".to_owned(), vec![2, 16]));
    shapes.push(("span.bias".to_owned(), vec![2]));
    shapes.push(("rel.weight".to_owned(), vec![1, 16]));
    shapes.push(("rel.bias".to_owned(), vec![1]));
    let mut tensors = BTreeMap::new();
    for (name, shape) in shapes {
        let centre = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
        let count = shape.iter().product::<usize>();
        let numbers: Vec<f32> =
            (0..count).map(|_| centre + rng.random_range(-0.3f32..0.3)).collect();
        let tensor = Tensor::from_vec(numbers, shape, &Device::Cpu);
        tensors.insert(name, tensor.map_err(|error| malformed(error.to_string()))?);
    }
    let tokenizer = Tokenizer::from_bytes(tokenizer_json(&vocabulary))
        .map_err(|error| malformed(error.to_string()))?;
    write_folder(folder, &config, &tokenizer, &tensors, Precision::F32)
}

fn vocabulary() -> Vec<String> {
    let mut words: Vec<String> =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned).to_vec();
    let letters = || ('a'..='z').chain('0'..='9');
    words.extend(letters().map(String::from));
    words.extend(letters().map(|letter| format!("##{letter}")));
    words.extend(".,:;!?'\"()-/".chars().map(String::from));
    words.extend(["the", "of", "is", "what", "who", "in"].map(str::to_owned));
    words
}

fn tokenizer_json(vocabulary: &[String]) -> String {
    let ids: BTreeMap<&String, usize> =
        vocabulary.iter().enumerate().map(|(id, word)| (word, id)).collect();
    serde_json::json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": null,
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": ids
        }
    })
    .to_string()
}
