//! Folders written and read again, whole and broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::policy::fixture::write_tiny_model;

fn tiny() -> (tempfile::TempDir, ModelFolder) {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_model(dir.path(), 7).unwrap();
    let folder = ModelFolder::load(dir.path(), &Device::Cpu).unwrap();
    (dir, folder)
}

fn largest_difference(a: &ModelFolder, b: &ModelFolder) -> f32 {
    assert_eq!(a.tensors.keys().collect::<Vec<_>>(), b.tensors.keys().collect::<Vec<_>>());
    let difference = |(a, b): (&Tensor, &Tensor)| {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap()
    };
    a.tensors.values().zip(b.tensors.values()).map(difference).fold(0.0, f32::max)
}

#[test]
fn a_folder_comes_back_as_it_was_written_within_its_precision() {
    let (_keep, original) = tiny();
    for (precision, bound) in
        [(Precision::F32, 0.0), (Precision::F16, 1e-3), (Precision::Int8Rows, 4e-3)]
    {
        let out = tempfile::tempdir().unwrap();
        let ModelFolder { config, tokenizer, tensors, .. } = &original;
        write_folder(out.path(), config, tokenizer, tensors, precision).unwrap();
        let read = ModelFolder::load(out.path(), &Device::Cpu).unwrap();
        let difference = largest_difference(&original, &read);
        assert!(difference <= bound, "{precision:?}: {difference}");
        assert_eq!(read.config, original.config);
    }
}

#[test]
fn a_missing_file_says_which_and_what_a_folder_needs() {
    let (dir, _) = tiny();
    std::fs::remove_file(dir.path().join(TOKENIZER_FILE)).unwrap();
    let error = ModelFolder::load(dir.path(), &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("has no tokenizer.json; it needs"), "{error}");
}

#[test]
fn a_tensor_of_the_wrong_shape_is_named_with_both_shapes_and_the_file() {
    let (dir, mut folder) = tiny();
    let name = "encoder.layer.0.output.dense.bias";
    let wrong = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
    folder.tensors.insert(name.to_owned(), wrong);
    let ModelFolder { config, tokenizer, tensors, .. } = &folder;
    write_folder(dir.path(), config, tokenizer, tensors, Precision::F32).unwrap();
    let error = ModelFolder::load(dir.path(), &Device::Cpu).unwrap_err().to_string();
    for part in [name, "expected shape [16]", "found [3]", "model.safetensors"] {
        assert!(error.contains(part), "{part} not in: {error}");
    }
}

#[test]
fn garbage_in_place_of_weights_is_an_error_that_names_the_file() {
    let (dir, _) = tiny();
    std::fs::write(dir.path().join(WEIGHTS_FILE), b"not weights at all").unwrap();
    let error = ModelFolder::load(dir.path(), &Device::Cpu).unwrap_err();
    assert!(matches!(error, ModelFolderError::Malformed { .. }), "{error}");
}

#[test]
fn a_weight_that_is_not_finite_is_never_written() {
    let (dir, mut folder) = tiny();
    let nan = Tensor::new(&[f32::NAN; 2], &Device::Cpu).unwrap();
    folder.tensors.insert("span.bias".to_owned(), nan);
    let ModelFolder { config, tokenizer, tensors, .. } = &folder;
    let result = write_folder(dir.path(), config, tokenizer, tensors, Precision::F16);
    assert!(result.unwrap_err().to_string().contains("span.bias"));
}
