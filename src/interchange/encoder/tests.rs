//! Folders of other trainers mapped and refused; the tiny BERT of transformers is in `tests/it`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::interchange::names::saved::save;
use crate::policy::fixture::write_tiny_model;
use std::collections::HashMap;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// The tiny reader as transformers would name it, changed by `change`.
    fn new(change: impl Fn(&mut HashMap<String, Tensor>)) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        write_tiny_model(&place.theirs(), 5).unwrap();
        let tiny = ModelFolder::load(&place.theirs(), &Device::Cpu).unwrap();
        let named = |(name, tensor): (String, Tensor)| {
            let theirs = match name.split_once('.') {
                Some(("rel", rest)) => format!("classifier.{rest}"),
                Some(("span", rest)) => format!("qa_outputs.{rest}"),
                _ => format!("bert.{name}"),
            };
            (theirs, tensor)
        };
        let mut tensors: HashMap<String, Tensor> = tiny.tensors.into_iter().map(named).collect();
        change(&mut tensors);
        save(&place.theirs().join(WEIGHTS_FILE), &tensors, None);
        place
    }

    fn theirs(&self) -> std::path::PathBuf {
        self.folder.path().join("theirs")
    }

    fn ours(&self) -> std::path::PathBuf {
        self.folder.path().join("ours")
    }

    fn import(&self, fills_heads: bool) -> Result<Imported, ImportError> {
        let loaded = load(&self.theirs(), fills_heads)?;
        let how = (Precision::F32, Clock::System);
        write(&loaded, ("lab", &self.ours()), how, ReaderArgs::default(), None)
    }

    fn config(&self, change: impl Fn(&mut serde_json::Value)) {
        let path = self.theirs().join(CONFIG_FILE);
        let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        std::fs::write(&path, config.to_string()).unwrap();
    }
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn names_of_transformers_come_in_under_ours() {
    let place = Place::new(|tensors| {
        tensors.insert("bert.pooler.dense.weight".to_owned(), zeros(&[16, 16]));
        tensors.insert("bert.pooler.dense.bias".to_owned(), zeros(&[16]));
        let ids = Tensor::zeros((1, 192), DType::I64, &Device::Cpu).unwrap();
        tensors.insert("bert.embeddings.position_ids".to_owned(), ids);
    });
    let imported = place.import(false).unwrap();
    assert_eq!((imported.lineage.as_str(), imported.filled.len()), ("imported/lab", 0));
    let written = ModelFolder::load(&place.ours(), &Device::Cpu).unwrap();
    let names: Vec<&str> =
        written.tensors.keys().map(String::as_str).filter(|n| !n.contains("layer.")).collect();
    let heads = ["rel.bias", "rel.pooler.bias", "rel.pooler.weight", "rel.weight"];
    assert_eq!(names[5..9], heads);
    assert_eq!(names[9..], ["span.bias", "span.weight"]);
    assert!(place.ours().join(IMPORT_FILE).is_file());
    // A pooler of zeros leaves the bias of the head.
    let reader = PairReader::load(&place.ours(), ReaderArgs::default()).unwrap();
    let document = actors::types::Document { text: "a passage".to_owned(), ..Default::default() };
    let reading = &reader.read(&[("who?", &document)]).unwrap()[0];
    let bias = written.tensor("rel.bias", &[1]).unwrap().to_vec1::<f32>().unwrap()[0];
    assert!((reading.rel - bias).abs() < 1e-6);
}

#[test]
fn missing_and_superfluous_names_are_listed_and_nothing_is_written() {
    let place = Place::new(|tensors| {
        tensors.remove("bert.encoder.layer.1.output.dense.bias");
        tensors.insert("cls.predictions.bias".to_owned(), zeros(&[3]));
        tensors.insert("classifier.weight".to_owned(), zeros(&[2, 16]));
    });
    let error = place.import(false).unwrap_err().to_string();
    for part in [
        "1 missing: encoder.layer.1.output.dense.bias [16]",
        "1 superfluous: cls.predictions.bias",
        "rel.weight [2, 16], expected [1, 16]",
    ] {
        assert!(error.contains(part), "{part} not in: {error}");
    }
    assert!(!place.ours().exists());
}

#[test]
fn a_head_that_is_not_there_is_filled_only_where_that_is_asked_for() {
    let place = Place::new(|tensors| tensors.retain(|name, _| !name.starts_with("qa_outputs")));
    let error = place.import(false).unwrap_err().to_string();
    assert!(error.contains("span.weight [2, 16]"), "{error}");
    assert_eq!(place.import(true).unwrap().filled, ["span"]);
    let place = Place::new(|tensors| {
        tensors.retain(|name, _| name.starts_with("bert."));
    });
    let error = place.import(true).unwrap_err().to_string();
    assert!(error.contains("neither `classifier.*` nor `qa_outputs.*`"), "{error}");
}

#[test]
fn another_family_is_refused_by_its_name() {
    let place = Place::new(|_| {});
    place.config(|config| config["model_type"] = "roberta".into());
    assert!(place.import(false).unwrap_err().to_string().contains("`roberta`, expected `bert`"));
    place.config(|config| {
        config["model_type"] = "bert".into();
        config["hidden_act"] = "relu".into();
    });
    assert!(place.import(false).unwrap_err().to_string().contains("hidden_act `relu`"));
}

#[test]
fn weights_that_are_not_finite_leave_no_folder() {
    let place = Place::new(|tensors| {
        let nan = Tensor::new(&[f32::NAN], &Device::Cpu).unwrap();
        tensors.insert("classifier.bias".to_owned(), nan);
    });
    let error = place.import(false).unwrap_err().to_string();
    assert!(error.contains("rel.bias") && error.contains("NaN"), "{error}");
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 1);
}
