//! The layout of a folder, pooling, and parity with sentence-transformers and model2vec.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::fixture::write_tiny_model;
use serde_json::{Value, json};
use std::path::PathBuf;

fn tiny() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_tiny_model(folder.path(), 3).unwrap();
    folder
}

fn load(folder: &Path) -> Result<SentenceEncoder, SentenceError> {
    SentenceEncoder::load(folder, SentenceArgs::default(), Device::Cpu)
}

fn write(folder: &Path, file: &str, content: &Value) {
    let path = folder.join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content.to_string()).unwrap();
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_text_has_the_same_unit_vector_alone_and_in_company() {
    let folder = tiny();
    let encoder = load(folder.path()).unwrap();
    let all = texts(&["who is in the", "", "a longer text, of more than a few tokens", "x"]);
    let together = encoder.encode(&all).unwrap();
    let small = SentenceArgs { batch_tokens: 1, ..SentenceArgs::default() };
    let encoder = SentenceEncoder::load(folder.path(), small, Device::Cpu).unwrap();
    for (text, vector) in all.iter().zip(&together) {
        let alone = encoder.encode(std::slice::from_ref(text)).unwrap();
        assert!(largest_difference(&alone[0], vector) < 1e-5, "{text}");
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-5 && vector.len() == encoder.dimension());
    }
}

#[test]
fn the_folder_says_how_to_pool_and_how_much_to_read() {
    let folder = tiny();
    let mean = load(folder.path()).unwrap().encode(&texts(&["the key of room 5"])).unwrap();
    write(
        folder.path(),
        "1_Pooling/config.json",
        &json!({
            "word_embedding_dimension": 16, "pooling_mode_cls_token": true,
            "pooling_mode_mean_tokens": false
        }),
    );
    write(folder.path(), "sentence_bert_config.json", &json!({ "max_seq_length": 5 }));
    let encoder = load(folder.path()).unwrap();
    assert_eq!(encoder.max_tokens(), 5);
    let cls = encoder.encode(&texts(&["the key of room 5"])).unwrap();
    assert!(largest_difference(&mean[0], &cls[0]) > 1e-3);
    let cut = encoder.encode(&texts(&["the k", "the k e y and much more"])).unwrap();
    let three = encoder.encode(&texts(&["the k e"])).unwrap();
    let difference = largest_difference(&cut[1], &three[0]);
    assert!(difference < 1e-5, "two specials and three tokens are read: {difference}");
    assert!(largest_difference(&cut[0], &three[0]) > 1e-3);
    let args = SentenceArgs { max_tokens: Some(9_999), ..SentenceArgs::default() };
    let error = SentenceEncoder::load(folder.path(), args, Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("max_tokens is 9999; expected 3 to 192"), "{error}");
}

#[test]
fn what_would_be_computed_wrongly_is_refused_and_named() {
    let module = |kind: &str, path: &str| json!({ "type": format!("x.{kind}"), "path": path });
    let pooling = |mode: &str| json!({ (format!("pooling_mode_{mode}")): true });
    let cases: [(&str, Value, &str); 5] = [
        ("1_Pooling/config.json", pooling("max_tokens"), "its pooling is [max_tokens]; expected"),
        (
            "1_Pooling/config.json",
            json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true }),
            "its pooling is [cls_token, mean_tokens]",
        ),
        ("modules.json", json!([module("Dense", "2_Dense")]), "module `Dense` of modules.json"),
        ("modules.json", json!([module("Transformer", "0_T")]), "its encoder lies in `0_T`"),
        ("config.json", json!({ "model_type": "roberta" }), "model_type is `roberta`; expected"),
    ];
    for (file, content, told) in cases {
        let folder = tiny();
        write(folder.path(), file, &content);
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(error.contains(told), "{told} not in: {error}");
    }
    let empty = tempfile::tempdir().unwrap();
    let error = load(empty.path()).unwrap_err().to_string();
    assert!(error.contains("has no config.json; it needs"), "{error}");
}

/// The first and last four values of `sentence_transformers` 6.2, `normalize_embeddings=True`, for
/// all-MiniLM-L6-v2: `SentenceTransformer(folder).encode([text])`.
const MINILM: [(&str, usize, [f32; 4], [f32; 4]); 5] = [
    (
        "The Nile flows north through Africa.",
        1,
        [-0.0502284, 0.0729587, 0.0181456, -0.0441274],
        [-0.0052374, 0.0168271, -0.0395344, -0.0280675],
    ),
    (
        "which river drains lake victoria?",
        1,
        [0.0668127, 0.0545296, 0.0095998, 0.0049458],
        [0.0440186, -0.0556787, 0.0141444, -0.0653318],
    ),
    (
        "",
        1,
        [-0.1188383, 0.0482987, -0.0025481, -0.0110112],
        [0.1587459, 0.1264095, 0.0465490, -0.0157173],
    ),
    (
        "Röntgen's X-rays, 東京 and  naïve café",
        1,
        [0.0144509, 0.0337671, 0.0472587, -0.0230879],
        [0.0201880, 0.0467429, -0.0734261, -0.0057417],
    ),
    (
        "word ",
        400,
        [-0.0081237, -0.0955860, -0.0386731, 0.0496620],
        [0.0009858, -0.0229317, 0.0870923, 0.0152406],
    ),
];

#[test]
fn minilm_gives_the_vectors_of_sentence_transformers() {
    let Ok(folder) = std::env::var("REGRADE_TEST_MINILM") else {
        println!("skipped: set REGRADE_TEST_MINILM to a folder of all-MiniLM-L6-v2");
        return;
    };
    let encoder = load(Path::new(&folder)).unwrap();
    assert_eq!((encoder.dimension(), encoder.max_tokens()), (384, 256));
    let mut largest = 0.0_f32;
    for (text, times, first, last) in MINILM {
        let vector = &encoder.encode(&[text.repeat(times)]).unwrap()[0];
        largest = largest.max(largest_difference(&vector[..4], &first));
        largest = largest.max(largest_difference(&vector[380..], &last));
    }
    println!("largest difference from sentence-transformers: {largest:e}");
    assert!(largest < 2e-5, "{largest}");
}

#[test]
fn a_table_gives_the_vectors_of_model2vec() {
    let shared = std::env::var("REGRADE_SHARED").unwrap_or_else(|_| "../shared".into());
    let folder = PathBuf::from(&shared).join("data/raw/tiny-embed-fixture");
    if !folder.is_dir() {
        println!("skipped: no data in {shared}; set REGRADE_SHARED to the folder that holds it");
        return;
    }
    let encoder = load(&folder).unwrap();
    // model2vec 0.10: StaticModel.from_pretrained(folder).encode([text]), at unit length.
    let expected = [
        ("The Nile flows north through Africa.", [0.999_539_55, -0.030_341_87]),
        ("which river drains lake victoria?", [0.899_671_85, 0.436_566_86]),
        ("Röntgen's X-rays, 東京 and  naïve café", [0.725_840_75, -0.687_862_9]),
    ];
    for (text, expected) in expected {
        let vector = &encoder.encode(&texts(&[text])).unwrap()[0];
        assert!(largest_difference(vector, &expected) < 1e-5, "{text}: {vector:?}");
    }
    assert!(encoder.encode(&texts(&[""])).is_ok(), "an empty text is the unknown token");
}
